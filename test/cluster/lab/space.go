package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// local are the addresses that this space answers to; pods is the part of them
// that pods get; services is where Services' come from.
const (
	local    = "10.77.0.0/16"
	pods     = "10.77.128.0/17"
	services = "10.96.0.0/16"
)

// World is what a program that runs in a space is given.
type World struct {
	Tools Tools
	// Dir is the space's folder. Programs outside see it too, but not what is
	// mounted in it.
	Dir string
}

const (
	envTools = "SERIN_LAB_TOOLS"
	envDir   = "SERIN_LAB_DIR"
	envRoot  = "SERIN_LAB_ROOT"
)

// Main is a program that runs in a space of its own: it builds the tools, starts
// itself again in new namespaces, and runs inside there. It does not return.
//
// Each name in doors is a unix socket that the inside may listen on
// ([World.Door]); outside, Main gives it a port of 127.0.0.1, whose address the
// inside learns with it.
func Main(inside func(context.Context, World) int, doors ...string) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv(envTools) == "" {
		code, err := outside(ctx, doors)
		if err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			code = max(code, 1)
		}
		os.Exit(code)
	}
	w := World{Dir: os.Getenv(envDir)}
	if err := json.Unmarshal([]byte(os.Getenv(envTools)), &w.Tools); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", envTools, "is not what this program writes:", err)
		os.Exit(1)
	}
	if err := furnish(w.Dir); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
	os.Exit(inside(ctx, w))
}

// outside builds, and runs this program again in a space; code is the inner
// program's.
func outside(ctx context.Context, doors []string) (code int, err error) {
	tools, err := Build(ctx, os.Stderr)
	if err != nil {
		return 1, err
	}
	root, err := clusterDir()
	if err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "serin-lab-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envTools+"="+tools.String(), envDir+"="+dir, envRoot+"="+root)
	for _, d := range doors {
		addr, stop, err := door(filepath.Join(dir, d+".sock"))
		if err != nil {
			return 1, err
		}
		defer stop()
		cmd.Env = append(cmd.Env, envDoor(d)+"="+addr)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	// The kernel ends the inner program when the thread that started it ends:
	// this one must live as long as the process.
	runtime.LockOSThread()
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("the test cluster needs network, process and mount namespaces of its own: run it as root, or where user namespaces are allowed "+
			"(sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces): %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		// A terminal's Ctrl-C has reached the inner program too; kill has not.
		cmd.Process.Signal(syscall.SIGTERM)
		err = <-done
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode(), nil
	}
	return 1, err
}

// furnish makes the space habitable: processes of its own under /proc, memory
// for files, a loopback on which every pod's address is local.
func furnish(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts to this space: %w", err)
	}
	// Where a container hides parts of /proc this is refused; then figures of
	// memory and processor time are missing, and nothing else.
	_ = unix.Mount("proc", "/proc", "proc", 0, "")
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", run, "tmpfs", 0, "size=4g"); err != nil {
		return fmt.Errorf("memory for the cluster's files: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("setting loopback up: %w", err)
	}
	_, all, err := net.ParseCIDR(local)
	if err != nil {
		return err
	}
	here := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: all, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST}
	if err := netlink.RouteReplace(here); err != nil {
		return fmt.Errorf("making %s local: %w", local, err)
	}
	addr, err := netlink.ParseAddr("10.77.0.1/32")
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(lo, addr); err != nil {
		return fmt.Errorf("the cluster's own address: %w", err)
	}
	// The API server looks for a default route to learn its address.
	_, anywhere, _ := net.ParseCIDR("0.0.0.0/0")
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: anywhere, Scope: netlink.SCOPE_LINK}); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	return nil
}

func envDoor(name string) string { return "SERIN_LAB_DOOR_" + strings.ToUpper(name) }

// door listens on a port of 127.0.0.1 outside and leads to a socket that the
// inside listens on.
func door(socket string) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	go carry(l, "unix", socket)
	return l.Addr().String(), func() { l.Close() }, nil
}

// Door opens the way from outside to an address of the space, and gives the
// address to use outside.
func (w World) Door(name, to string) (outside string, err error) {
	outside = os.Getenv(envDoor(name))
	if outside == "" {
		return "", fmt.Errorf("Main was not told of the door %q", name)
	}
	l, err := net.Listen("unix", filepath.Join(w.Dir, name+".sock"))
	if err != nil {
		return "", err
	}
	go carry(l, "tcp", to)
	return outside, nil
}

// carry takes each connection on to the same address, until l is closed.
func carry(l net.Listener, network, address string) {
	for {
		a, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer a.Close()
			b, err := net.Dial(network, address)
			if err != nil {
				return
			}
			defer b.Close()
			var both sync.WaitGroup
			for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
				both.Go(func() {
					io.Copy(way[0], way[1])
					if c, ok := way[0].(interface{ CloseWrite() error }); ok {
						c.CloseWrite()
					}
				})
			}
			both.Wait()
		}()
	}
}
