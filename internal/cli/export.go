package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

type verb = rollout.Verb

// export: one HTML file of how a rollout stands, or stood.
func (a *app) export() *cobra.Command {
	var out, at string
	var force bool
	c := &cobra.Command{
		Use:   "export [NAME]",
		Short: "A post-mortem as one HTML file: verdict, charts, decisions, cost",
		Long: `Writes how a rollout stands, with its history, into one HTML file that needs
neither Serin nor a network. With --at it is how it stood then, as far as the
host has kept it: the figures of a day, the last 50 decisions.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			var when time.Time
			if at != "" {
				var err error
				if when, err = time.Parse(time.RFC3339, at); err != nil {
					return fmt.Errorf("--at %s: want an instant like 2026-01-31T12:00:00Z", at)
				}
			}
			return a.with(cmd.Context(), args, func(t target) error {
				page, name, err := a.page(cmd.Context(), t, when)
				if err != nil {
					return err
				}
				if out == "-" {
					_, err := a.Stdout.Write(page)
					return err
				}
				if out != "" {
					name = out
				}
				flags := os.O_CREATE | os.O_WRONLY | os.O_EXCL
				if force {
					flags = os.O_CREATE | os.O_WRONLY | os.O_TRUNC
				}
				f, err := os.OpenFile(name, flags, 0o644)
				if errors.Is(err, fs.ErrExist) {
					return fmt.Errorf("%s is there already: choose another name with -o, or --force", name)
				}
				if err != nil {
					return err
				}
				if _, err = f.Write(page); err == nil {
					err = f.Close()
				}
				if err != nil {
					return fmt.Errorf("writing %s: %w", name, err)
				}
				fmt.Fprintln(a.Stdout, name)
				return nil
			})
		},
	}
	c.Flags().StringVarP(&out, "output-file", "o", "", "file to write; - is standard output (default: named for the rollout and the time)")
	c.Flags().StringVar(&at, "at", "", "as it was at this instant, like 2026-01-31T12:00:00Z")
	c.Flags().BoolVar(&force, "force", false, "write over a file that is there")
	return c
}

// page makes the file and its name. Only a daemon has kept how it went; of a
// cluster the file holds what its object does.
func (a *app) page(ctx context.Context, t target, at time.Time) ([]byte, string, error) {
	d, ok := t.Host.(*httpapi.Client)
	if !ok && !at.IsZero() {
		return nil, "", errors.New("--at is for a daemon, which keeps how it went: a cluster's object holds how it stands, and every decision with its time")
	}
	var v httpapi.RolloutView
	var s httpapi.Series
	var err error
	if at.IsZero() {
		v, err = t.view(ctx)
	} else {
		v, err = d.At(ctx, t.ref, at)
	}
	if err == nil && ok {
		s, err = d.Series(ctx, t.ref, time.Time{})
	}
	if err != nil {
		return nil, "", err
	}
	page, err := httpapi.Export(v, s, a.Version)
	return page, httpapi.FileName(v), err
}
