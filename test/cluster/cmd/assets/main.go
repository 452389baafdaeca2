// Command assets builds the test cluster's programs, where they are not built
// yet, and prints the folder that has etcd and kube-apiserver under these
// names, as tests expect it in KUBEBUILDER_ASSETS.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/serin-dev/serin/test/cluster/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	t, err := lab.Build(ctx, os.Stderr)
	if err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(t.Etcd), "assets")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, path := range map[string]string{"etcd": t.Etcd, "kube-apiserver": t.APIServer} {
		link := filepath.Join(dir, name)
		if to, err := os.Readlink(link); err == nil && to == path {
			continue
		}
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.Symlink(path, link); err != nil {
			return err
		}
	}
	_, err = fmt.Println(dir)
	return err
}
