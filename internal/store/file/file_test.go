package file

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
)

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	enginetest.TestStore(t, func(t *testing.T) enginetest.StoreFixture {
		path := filepath.Join(t.TempDir(), "deep", "my-app.state")
		return enginetest.StoreFixture{Store: open(t, path), Reopen: func() engine.Store { return open(t, path) }}
	})
}

// saveTwice leaves two copies: N=1 before N=2.
func saveTwice(t *testing.T, s *Store) {
	t.Helper()
	saved := engine.Saved{State: enginetest.FullState(), Evidence: []byte("{}")}
	for n := 1; n <= 2; n++ {
		saved.State.N, saved.State.Schema = n, rollout.SchemaVersion
		version, err := s.Save(t.Context(), saved)
		if err != nil {
			t.Fatal(err)
		}
		saved.Version = version
	}
}

func TestOnlyTheOwnerReads(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "d", "s"))
	saveTwice(t, s)
	for _, name := range []string{s.path, s.path + ".prev", s.path + ".lock"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", filepath.Base(name), info.Mode())
		}
	}
	if _, err := os.Stat(s.path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a working copy was left behind: %v", err)
	}
}

// A file that is not whole is an error that says what to do; it is neither
// taken for an empty state nor overwritten; the copy before goes on.
func TestDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		spoil  func([]byte) []byte
		says   []string
	}{
		"Torn": {
			"half of it was written by a program that does not sync",
			func(b []byte) []byte { return b[:len(b)/2] },
			[]string{"torn", "of", "bytes", "mv "},
		},
		"Empty":     {"created and never written", func([]byte) []byte { return nil }, []string{"is empty", "mv "}},
		"FirstLine": {"not even the first line is there", func(b []byte) []byte { return b[:30] }, []string{"first line", "mv "}},
		"Begun":     {"some bytes of the first word", func(b []byte) []byte { return b[:5] }, []string{"ends after 5 bytes", "mv "}},
		"BitRot": {
			"one bit of the state is another",
			func(b []byte) []byte { b[len(b)-20] ^= 1; return b },
			[]string{"checksum", "mv "},
		},
		"EditedByHand": {
			"a person changed a weight: nobody knows what else",
			func(b []byte) []byte { return bytes.Replace(b, []byte(`"phase"`), []byte(`"Phase"`), 1) },
			[]string{"checksum", "mv "},
		},
		"Foreign": {
			"somebody else's file", func([]byte) []byte { return []byte("apiVersion: v1\n") },
			[]string{`begins with "apiVersion: v1`, "Name another place"},
		},
		"LaterFormat": {
			"written by a later program",
			func(b []byte) []byte { return bytes.Replace(b, []byte("serin-state 1"), []byte("serin-state 2"), 1) },
			[]string{"format 2", "later Serin"},
		},
		"LaterSchema": {
			"a later program's state in today's file",
			func(b []byte) []byte {
				c, _, _ := decode(b)
				c.State.Schema = rollout.SchemaVersion + 1
				b, _, _ = encode(c)
				return b
			},
			[]string{"schema 2", "later Serin"},
		},
		"Nonsense": {
			"whole, and not a state",
			func([]byte) []byte {
				body := []byte("[1]\n")
				return fmt.Appendf(nil, "serin-state 1 sha256=%x bytes=%d\n%s", sum(body), len(body), body)
			},
			[]string{"cannot be understood", "mv "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "s"))
			saveTwice(t, s)
			whole, err := os.ReadFile(s.path)
			if err != nil {
				t.Fatal(err)
			}
			spoiled := c.spoil(bytes.Clone(whole))
			if bytes.Equal(whole, spoiled) {
				t.Fatal("the case spoils nothing")
			}
			if err := os.WriteFile(s.path, spoiled, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := s.Load(t.Context())
			var damaged *DamagedError
			if !errors.As(err, &damaged) || got.Version != "" {
				t.Fatalf("%s: loaded version %q, error %v; want a DamagedError", c.reason, got.Version, err)
			}
			for _, word := range append(c.says, s.path) {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%s: the error does not say %q: %v", c.reason, word, err)
				}
			}
			if _, err := s.Save(t.Context(), engine.Saved{}); !errors.As(err, &damaged) {
				t.Errorf("saving over it: error %v, want a DamagedError", err)
			}
			if now, _ := os.ReadFile(s.path); !bytes.Equal(now, spoiled) {
				t.Error("the damaged file was changed")
			}
			if err := os.Rename(s.path+".prev", s.path); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Load(t.Context()); err != nil || got.State.N != 1 {
				t.Errorf("the copy before: N=%d, error %v; want N=1", got.State.N, err)
			}
		})
	}
}

// Without a whole copy before it the error does not advise to go back to one.
func TestDamagedWithNothingBefore(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"))
	if err := os.WriteFile(s.path, []byte("serin-state 1 sha"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Load(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Move it away") || strings.Contains(err.Error(), ".prev") {
		t.Errorf("error %v, want the advice to move it away", err)
	}
}

// FuzzDecode: whatever the bytes, decode answers; what it accepts it gives back
// unchanged.
func FuzzDecode(f *testing.F) {
	full := content{Copy: 3, State: enginetest.FullState(), Evidence: []byte(`{"a":1}`), Told: 2}
	full.State.Schema = rollout.SchemaVersion
	good, _, err := encode(full)
	if err != nil {
		f.Fatal(err)
	}
	small, _, err := encode(content{Copy: 1})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{good, small, good[:40], []byte("serin-state 9 sha256=x bytes=1\n{"), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, version, bad := decode(data)
		if bad != nil {
			if bad.Why == "" || version != "" {
				t.Fatalf("refused without a reason, or with version %q", version)
			}
			return
		}
		again, v1, err := encode(c)
		if err != nil {
			t.Fatal(err)
		}
		c2, v2, bad := decode(again)
		if bad != nil || v1 != v2 {
			t.Fatalf("what was accepted does not come back: %v, versions %s and %s", bad, v1, v2)
		}
		third, _, _ := encode(c2)
		if !bytes.Equal(again, third) {
			t.Fatalf("it changes with every round:\n%s\n%s", again, third)
		}
	})
}
