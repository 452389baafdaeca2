package ui

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
)

// What is committed was built from what is committed. vite.config.ts writes the
// sum; whether the same sources give the same files again is tools/check-ui's business,
// which needs Node.
func TestDistIsCurrent(t *testing.T) {
	files := []string{"index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"}
	for _, dir := range []string{"public", "src"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				t.Fatalf("%s/%s is a folder: vite.config.ts does not look into it", dir, e.Name())
			}
			if !strings.Contains(e.Name(), ".test.") {
				files = append(files, dir+"/"+e.Name())
			}
		}
	}
	slices.Sort(files)
	h := sha256.New()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		h.Write([]byte(f + "\x00"))
		h.Write(b)
		h.Write([]byte{0})
	}
	want, err := fs.ReadFile(Files(), "sources.sha256")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != strings.TrimSpace(string(want)) {
		t.Error("ui/dist was built from other sources than those that are here: run `make ui` and commit what it writes")
	}
}

// A lock file with addresses in it would send everybody to one machine's registry.
func TestLockHoldsNoRegistry(t *testing.T) {
	for _, name := range []string{"package-lock.json", "../test/browser/package-lock.json"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), `"resolved"`) {
			t.Errorf("%s says where its packages were fetched from: make it anew with omit-lockfile-registry-resolved", name)
		}
		if !strings.Contains(string(b), `"integrity"`) {
			t.Errorf("%s does not say what its packages' sums are", name)
		}
	}
}
