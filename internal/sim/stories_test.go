package sim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/internal/golden"
)

const mark = "-- trace --\n"

// TestStories tells every script of testdata/stories and compares the whole
// printed story. With -update it is written anew: read the diff.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 12 {
		t.Fatalf("%d stories; there were at least twelve", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script, _, _ := strings.Cut(string(b), mark)
			got, err := Tell(script)
			if err != nil {
				t.Fatalf("%v\n%s", err, got)
			}
			if again, _ := Tell(script); again != got {
				t.Fatalf("told twice it is another story:\n%s", cmp.Diff(got, again))
			}
			golden.Same(t, file, script+mark+got)
		})
	}
}
