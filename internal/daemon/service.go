package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/httpapi"
)

// notify tells the service manager, where there is one. It is told again and
// again by other means, so a failure is no more than a line in the log.
func (d *Daemon) notify(lines ...string) {
	if d.o.Notify == nil {
		return
	}
	if err := d.o.Notify(strings.Join(lines, "\n")); err != nil {
		d.log.Debug("telling the service manager", "err", err)
	}
}

// keepInformed tells the service manager what is the matter, once users are let
// in that the service is there, and, as often as it wants to hear so, that the
// daemon is alive: that whoever waits for its locks gets them.
func (d *Daemon) keepInformed(ctx context.Context) {
	if d.o.Notify == nil {
		return
	}
	every := time.Hour
	if d.o.Watchdog > 0 {
		every = d.o.Watchdog / 3
	}
	alive := time.NewTicker(every)
	defer alive.Stop()
	news := time.NewTicker(time.Second)
	defer news.Stop()
	opened := d.opened
	said := ""
	status := func() {
		if now := "STATUS=" + d.status(); now != said {
			said = now
			d.notify(now)
		}
	}
	status()
	for {
		select {
		case <-ctx.Done():
			return
		case <-opened:
			opened = nil
			said = "STATUS=" + d.status()
			d.notify("READY=1", said)
		case <-alive.C:
			d.board.Stats()
			d.sup.List()
			d.allApps()
			if d.o.Watchdog > 0 {
				d.notify("WATCHDOG=1")
			}
		case <-news.C:
			status()
		}
	}
}

// status is one sentence about everything.
func (d *Daemon) status() string {
	views, _ := d.List(context.Background())
	var parts []string
	for _, v := range views {
		part := fmt.Sprintf("%s: %s", v.Name, v.Phase)
		if httpapi.Unreadable(v) {
			part = v.Name + ": its saved state cannot be read"
		} else if v.Canary != nil {
			part += fmt.Sprintf(" %s at %s", v.Canary.Version, v.WeightSet)
		} else if v.Stable != nil {
			part += " on " + v.Stable.Version
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		parts = []string{"starting"}
	}
	if !d.isOpen() {
		return "Waits for a ready replica of the stable version; " + strings.Join(parts, ", ")
	}
	if len(parts) > 8 {
		parts = append(parts[:8], "...")
	}
	return d.Addr() + "; " + strings.Join(parts, ", ")
}

// forDaemon are the variables that a service manager means for the daemon and
// not for what it runs.
var forDaemon = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", handoverEnv, checkEnv}

// environment is what commands inherit.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(forDaemon, name)
	})
}

// WatchdogOf reads how often the service manager wants to hear that this process
// is alive; 0: it does not.
func WatchdogOf(getenv func(string) string, pid int) time.Duration {
	if p := getenv("WATCHDOG_PID"); p != "" && p != strconv.Itoa(pid) {
		return 0
	}
	n, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || n <= 0 {
		return 0
	}
	return time.Duration(n) * time.Microsecond
}

// Given are listeners of a service manager by name (of systemd: the socket
// unit's FileDescriptorName). One without a name of ours is for users' requests.
func Given(files []*os.File) (*Inherited, error) {
	if len(files) == 0 {
		return nil, nil
	}
	in := &Inherited{files: map[string]*os.File{}}
	for _, f := range files {
		name := f.Name()
		switch name {
		case "users", "tls", "metrics", "dashboard":
		case "http":
			name = "users"
		case "https":
			name = "tls"
		default:
			name = "users"
		}
		if in.files[name] != nil {
			return nil, fmt.Errorf("the service manager gives two sockets for %s: one of each of users, tls, metrics, dashboard is meant (FileDescriptorName in the socket unit)", name)
		}
		in.files[name] = f
	}
	return in, nil
}
