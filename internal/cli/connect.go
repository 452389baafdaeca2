package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
)

// daemon finds the daemon: by --socket, by SERIN_SOCKET, else the one that
// runs for this user. Of several it takes the one whose folder is the working
// directory, or above it.
func (a *app) daemon(ctx context.Context) (*httpapi.Client, error) {
	socket := a.socket
	if socket == "" {
		socket = a.Env("SERIN_SOCKET")
	}
	if socket != "" {
		return httpapi.Dial(ctx, socket)
	}
	found, err := filepath.Glob(filepath.Join(a.runDir(), "*.sock"))
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	type daemon struct {
		socket string
		client *httpapi.Client
		info   httpapi.Info
	}
	var alive []daemon
	var dead []string // and why
	gone := func(socket string, err error) {
		var none *httpapi.NotRunning
		switch {
		case errors.Is(err, fs.ErrPermission):
			socket += " (this user may not open it)"
		case !errors.As(err, &none):
			socket += fmt.Sprintf(" (%v)", err)
		}
		dead = append(dead, socket)
	}
	for _, s := range found {
		c, err := httpapi.Dial(ctx, s)
		if err != nil {
			gone(s, err)
			continue
		}
		i, err := c.Info(ctx)
		if err != nil {
			c.Close()
			gone(s, err)
			continue
		}
		alive = append(alive, daemon{s, c, i})
	}
	chosen := -1
	switch cwd, err := os.Getwd(); {
	case len(alive) == 1:
		chosen = 0
	case len(alive) > 1 && err == nil:
		for i, d := range alive {
			if d.info.Dir != "" && within(cwd, d.info.Dir) && (chosen < 0 || len(d.info.Dir) > len(alive[chosen].info.Dir)) {
				chosen = i
			}
		}
	}
	for i, d := range alive {
		if i != chosen {
			d.client.Close()
		}
	}
	if chosen >= 0 {
		return alive[chosen].client, nil
	}
	if len(found) == 0 {
		return nil, &noDaemon{}
	}
	if len(alive) == 0 { // one that was killed leaves its socket: its commands are not for a cluster
		return nil, fmt.Errorf("no daemon is running for this user (one was: nobody answers on %s): start it with `serin up -f DIR`, name another's socket with --socket or SERIN_SOCKET, or name a cluster with --context, -n or --kubeconfig", strings.Join(dead, ", "))
	}
	var lines []string
	for _, d := range alive {
		lines = append(lines, fmt.Sprintf("  --socket %s   (folder %s, process %d)", d.socket, d.info.Dir, d.info.PID))
	}
	return nil, fmt.Errorf("%d daemons are running: say which one\n%s", len(alive), strings.Join(lines, "\n"))
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// target is the rollout that a verb is about, and who answers for it.
type target struct {
	Host
	ref  httpapi.Ref
	seen *httpapi.RolloutView // as the search for it found it
}

// view is the rollout as it stands: asked for once.
func (t target) view(ctx context.Context) (httpapi.RolloutView, error) {
	if t.seen != nil {
		return *t.seen, nil
	}
	return t.Get(ctx, t.ref)
}

// with connects, and gives the rollout that args name: with none, the only one.
func (a *app) with(ctx context.Context, args []string, do func(target) error) error {
	h, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	if len(args) > 0 {
		return do(target{Host: h, ref: httpapi.ParseRef(args[0])})
	}
	views, err := h.List(ctx)
	if err != nil {
		return err
	}
	switch len(views) {
	case 0:
		return fmt.Errorf("no rollout is known%s yet", whereOf(h))
	case 1:
		return do(target{Host: h, ref: httpapi.Ref{Namespace: views[0].Namespace, Name: views[0].Name}, seen: &views[0]})
	}
	var names []string
	for _, v := range views {
		names = append(names, httpapi.Ref{Namespace: v.Namespace, Name: v.Name}.String())
	}
	more := ""
	if len(names) > 10 {
		names, more = names[:10], fmt.Sprintf(" and %d more", len(names)-10)
	}
	return fmt.Errorf("there are %d rollouts: name one of %s%s", len(views), strings.Join(names, ", "), more)
}

// whereOf says which cluster and namespace a host is, and nothing of a daemon.
func whereOf(h Host) string {
	if w, ok := h.(fmt.Stringer); ok {
		return " in " + w.String()
	}
	return ""
}

// names completes the argument of verbs that take a rollout.
func (a *app) names(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	h, err := a.connect(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer h.Close()
	views, err := h.List(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, v := range views {
		name := httpapi.Ref{Namespace: v.Namespace, Name: v.Name}.String()
		if a.cluster.Namespace == v.Namespace {
			name = v.Name
		}
		out = append(out, name+"\t"+oneLine(v.Message))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
