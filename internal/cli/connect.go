package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
)

// connect finds the daemon: by --socket, by SERIN_SOCKET, else the one that
// runs for this user. Of several it takes the one whose folder is the working
// directory, or above it.
func (a *app) connect(ctx context.Context) (*httpapi.Client, error) {
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
	for _, s := range found {
		c, err := httpapi.Dial(ctx, s)
		if err != nil {
			continue
		}
		i, err := c.Info(ctx)
		if err != nil {
			c.Close()
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
	if len(alive) == 0 {
		return nil, errors.New("no daemon is running for this user: start one with `serin up -f DIR`, or name its socket with --socket or SERIN_SOCKET")
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

// with connects, and gives the rollout that args name: with none, the only one.
func (a *app) with(ctx context.Context, args []string, do func(*httpapi.Client, httpapi.Ref) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if len(args) > 0 {
		return do(c, httpapi.ParseRef(args[0]))
	}
	views, err := c.List(ctx)
	if err != nil {
		return err
	}
	switch len(views) {
	case 0:
		return errors.New("the daemon knows no rollout yet")
	case 1:
		return do(c, httpapi.Ref{Namespace: views[0].Namespace, Name: views[0].Name})
	}
	var names []string
	for _, v := range views {
		names = append(names, httpapi.Ref{Namespace: v.Namespace, Name: v.Name}.String())
	}
	return fmt.Errorf("there are %d rollouts: name one of %s", len(names), strings.Join(names, ", "))
}

// names completes the argument of verbs that take a rollout.
func (a *app) names(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := a.connect(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	views, err := c.List(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, v := range views {
		out = append(out, httpapi.Ref{Namespace: v.Namespace, Name: v.Name}.String()+"\t"+v.Message)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
