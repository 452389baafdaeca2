package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// However people and programs change the folder, what it holds in the end is what
// was told last.
func TestEveryWayOfEditingTheFolderIsSeen(t *testing.T) {
	t.Parallel()
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }
	both := map[string]string{"a.yaml": "two", "b.yaml": "one"}
	for name, c := range map[string]struct {
		prepare func(root string) (dir string) // with a.yaml and b.yaml, both "one"
		edit    func(root string)
		want    map[string]string
	}{
		"written in place": {nil, func(root string) { must(write(root+"/docs/a.yaml", "two")) }, both},
		"renamed over, as editors and git do": {nil, func(root string) {
			must(write(root+"/docs/.a.yaml.swp", "two"), os.Rename(root+"/docs/.a.yaml.swp", root+"/docs/a.yaml"))
		}, both},
		"moved away and written anew, as vim does": {nil, func(root string) {
			must(os.Rename(root+"/docs/a.yaml", root+"/docs/a.yaml~"), write(root+"/docs/a.yaml", "two"), os.Remove(root+"/docs/a.yaml~"))
		}, both},
		"emptied and written piece by piece": {nil, func(root string) {
			f, err := os.Create(root + "/docs/a.yaml")
			must(err)
			for _, piece := range []string{"t", "w", "o"} {
				_, err := f.WriteString(piece)
				must(err)
			}
			must(f.Close())
		}, both},
		"removed": {nil, func(root string) { must(os.Remove(root + "/docs/a.yaml")) }, map[string]string{"b.yaml": "one"}},
		"the folder moved away, and another one in its place": {nil, func(root string) {
			must(os.Mkdir(root+"/new", 0o700), write(root+"/new/a.yaml", "two"), write(root+"/new/b.yaml", "one"))
			must(os.Rename(root+"/docs", root+"/old"), os.Rename(root+"/new", root+"/docs"))
		}, both},
		"links into a folder that is swapped, as a mounted ConfigMap has them": {func(root string) string {
			must(os.MkdirAll(root+"/cm/..one", 0o700), write(root+"/cm/..one/a.yaml", "one"), write(root+"/cm/..one/b.yaml", "one"))
			must(os.Symlink("..one", root+"/cm/..data"), os.Symlink("..data/a.yaml", root+"/cm/a.yaml"), os.Symlink("..data/b.yaml", root+"/cm/b.yaml"))
			return root + "/cm"
		}, func(root string) {
			must(os.Mkdir(root+"/cm/..two", 0o700), write(root+"/cm/..two/a.yaml", "two"), write(root+"/cm/..two/b.yaml", "one"))
			must(os.Symlink("..two", root+"/cm/..data_tmp"), os.Rename(root+"/cm/..data_tmp", root+"/cm/..data"), os.RemoveAll(root+"/cm/..one"))
		}, both},
		"a link to the folder that is swapped, as releases have it": {func(root string) string {
			must(os.Symlink("docs", root+"/current"))
			return root + "/current"
		}, func(root string) {
			must(os.Mkdir(root+"/next", 0o700), write(root+"/next/a.yaml", "two"), write(root+"/next/b.yaml", "one"))
			must(os.Symlink("next", root+"/current.new"), os.Rename(root+"/current.new", root+"/current"))
		}, both},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			dir := root + "/docs"
			must(os.Mkdir(dir, 0o700), write(dir+"/a.yaml", "one"), write(dir+"/b.yaml", "one"))
			if c.prepare != nil {
				dir = c.prepare(root)
			}
			var mu sync.Mutex
			told, first := map[string]string{}, make(chan struct{})
			began := sync.OnceFunc(func() { close(first) })
			ctx, cancel := context.WithCancel(context.Background())
			var ended sync.WaitGroup
			ended.Go(func() {
				watchFolder(ctx, dir, nil, slog.New(slog.DiscardHandler), func(files map[string]string, err error) bool {
					mu.Lock()
					defer mu.Unlock()
					defer began()
					if told = files; err != nil {
						told = map[string]string{"": fmt.Sprint(err)}
					}
					return false
				})
			})
			defer ended.Wait()
			defer cancel()
			<-first
			c.edit(root)
			now := func() map[string]string {
				mu.Lock()
				defer mu.Unlock()
				return told
			}
			for end := time.Now().Add(patience); !cmp.Equal(now(), c.want); time.Sleep(2 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("told (-want +got):\n%s", cmp.Diff(c.want, now()))
				}
			}
			if got, err := readFolder(filepath.Clean(dir)); err != nil || !cmp.Equal(got, c.want) {
				t.Errorf("the folder holds %v, %v", got, err)
			}
		})
	}
}

// What is told is what was compared: a file that is being written again while it
// is told must not be taken half, with nothing to notice that it is whole again.
func TestWhatIsToldOfTheFolderIsWhatWasCompared(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.yaml")
	whole := map[string]string{"a.yaml": "whole"}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	write("whole")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	watchFolder(ctx, dir, nil, slog.New(slog.DiscardHandler), func(files map[string]string, err error) bool {
		write("") // as a second write of the same begins, at the worst moment
		if diff := cmp.Diff(whole, files); err != nil || diff != "" {
			t.Errorf("%v, (-want +got):\n%s", err, diff)
		}
		write("whole")
		cancel()
		return false
	})
}
