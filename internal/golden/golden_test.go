package golden

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// witness notes what a test is told.
type witness struct {
	testing.TB
	said string
}

func (*witness) Helper()                     {}
func (w *witness) Errorf(f string, a ...any) { w.said = fmt.Sprintf(f, a...) }

func TestSame(t *testing.T) {
	*update = false
	file := filepath.Join(t.TempDir(), "x.golden")
	if err := os.WriteFile(file, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &witness{TB: t}
	if Same(w, file, "one\n"); w.said != "" {
		t.Errorf("the same is told as a difference: %s", w.said)
	}
	if Same(w, file, "two\n"); !strings.Contains(w.said, file) || !strings.Contains(w.said, "two") {
		t.Errorf("of a difference it says %q", w.said)
	}
	*update = true
	w.said = ""
	Same(w, file, "two\n")
	*update = false
	if Same(w, file, "two\n"); w.said != "" {
		t.Errorf("what was written anew differs: %s", w.said)
	}
}
