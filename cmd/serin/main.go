// Command serin releases new versions to a few users first. This file is the
// composition root: the only place that knows which parts there are.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/cli"
	"github.com/serin-dev/serin/internal/demo"
	"github.com/serin-dev/serin/internal/workload/process"
)

// version is set by the linker; otherwise it is what Go knows of the module.
var version string

func main() {
	process.RunShimIfAsked() // does not return where it is
	defer func() {
		if p := recover(); p != nil { // Go's own code for it is 2, which here means "rolled back"
			fmt.Fprintf(os.Stderr, "serin: this is a mistake in Serin itself: %v\n%s", p, debug.Stack())
			os.Exit(1)
		}
	}()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends what does not hear the first
	plugin, args := cli.Invoked(os.Args[0], os.Args[1:])
	code := cli.Main(ctx, cli.Program{
		Version:   versionOf(),
		Plugin:    plugin,
		Cluster:   cluster,
		SignIn:    signIn,
		Up:        up,
		Demo:      runDemo,
		CheckDemo: demo.Check,
		More:      []func() *cobra.Command{demo.App, controllerVerb},
	}, args)
	stop()
	os.Exit(code)
}

func versionOf() string {
	if version != "" {
		return version
	}
	if i, ok := debug.ReadBuildInfo(); ok && i.Main.Version != "" {
		return i.Main.Version
	}
	return "devel"
}

func runDemo(ctx context.Context, o cli.DemoOptions) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program, whose copies are the demo's back ends: %w", err)
	}
	r, err := demo.Run(ctx, demo.Options{
		Out: o.Out, Rate: o.Rate, Program: exe, Version: versionOf(), Print: os.Stdout,
	})
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("the demo was stopped before its end; everything that it started was ended")
	case err != nil:
		return err
	}
	return r.Err()
}
