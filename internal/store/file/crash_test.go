package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"testing"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
)

func sum(b []byte) [sha256.Size]byte { return sha256.Sum256(b) }

// disk is a file system whose power may fail. What was not synced may be lost:
// of the changes of names any number of the latest, of a file's bytes any part
// of the end.
type disk struct {
	names map[string]*inode // as programs see them
	safe  map[string]*inode // as after a loss of power, at the worst
	since []func(map[string]*inode)

	calls int
	// fail is asked before the n-th change; an error is what the call gives.
	// half says whether a write then leaves half of its bytes.
	fail func(n int) (err error, half bool)
}

type inode struct {
	data   []byte
	synced int // bytes that are on the disk for certain
}

var errPower = errors.New("the power failed")

func newDisk() *disk { return &disk{names: map[string]*inode{}, safe: map[string]*inode{}} }

// change counts one change and says whether it is struck.
func (d *disk) change() (error, bool) {
	n := d.calls
	d.calls++
	if d.fail == nil {
		return nil, false
	}
	return d.fail(n)
}

func (d *disk) name(do func(map[string]*inode)) {
	do(d.names)
	d.since = append(d.since, do)
}

func (d *disk) ReadFile(path string, _ int64) ([]byte, error) {
	i := d.names[path]
	if i == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(i.data), nil
}

// WriteSynced is three calls to the kernel: open with truncation, write, sync.
func (d *disk) WriteSynced(path string, data []byte) error {
	if err, _ := d.change(); err != nil {
		return err
	}
	i := &inode{}
	if old := d.names[path]; old != nil {
		i = old
		i.data, i.synced = nil, 0
	} else {
		d.name(func(m map[string]*inode) { m[path] = i })
	}
	if err, half := d.change(); err != nil {
		if half {
			i.data = slices.Clone(data[:len(data)/2])
		}
		return err
	}
	i.data = slices.Clone(data)
	if err, _ := d.change(); err != nil {
		return err
	}
	i.synced = len(i.data)
	return nil
}

func (d *disk) Link(old, fresh string) error {
	if err, _ := d.change(); err != nil {
		return err
	}
	i := d.names[old]
	if i == nil || d.names[fresh] != nil {
		return fs.ErrInvalid
	}
	d.name(func(m map[string]*inode) { m[fresh] = i })
	return nil
}

func (d *disk) Rename(old, fresh string) error {
	if err, _ := d.change(); err != nil {
		return err
	}
	i := d.names[old]
	if i == nil {
		return fs.ErrNotExist
	}
	d.name(func(m map[string]*inode) { m[fresh] = i; delete(m, old) })
	return nil
}

func (d *disk) Remove(path string) error {
	if err, _ := d.change(); err != nil {
		return err
	}
	if d.names[path] == nil {
		return fs.ErrNotExist
	}
	d.name(func(m map[string]*inode) { delete(m, path) })
	return nil
}

func (d *disk) SyncDir(string) error {
	if err, _ := d.change(); err != nil {
		return err
	}
	d.safe, d.since = maps.Clone(d.names), nil
	return nil
}

func (d *disk) TryLock(string) (func(), error) { return func() {}, nil }

// afterPowerLoss lists every disk that may be found: with the first k changes
// of names that were not synced, and unsynced bytes there, half there, or not.
func (d *disk) afterPowerLoss() (found []*disk) {
	for k := 0; k <= len(d.since); k++ {
		for _, keep := range []string{"all", "half", "none"} {
			names := maps.Clone(d.safe)
			for _, do := range d.since[:k] {
				do(names)
			}
			copies := map[*inode]*inode{}
			for path, i := range names {
				if copies[i] == nil {
					rest := len(i.data) - i.synced
					switch keep {
					case "half":
						rest /= 2
					case "none":
						rest = 0
					}
					data := slices.Clone(i.data[:i.synced+rest])
					copies[i] = &inode{data: data, synced: len(data)}
				}
				names[path] = copies[i]
			}
			found = append(found, &disk{names: names, safe: maps.Clone(names)})
		}
	}
	return found
}

func stateOf(n int) engine.Saved {
	s := engine.Saved{State: enginetest.FullState(), Evidence: []byte(fmt.Sprintf(`{"n":%d}`, n))}
	s.State.N, s.State.Schema = n, 1
	return s
}

// TestPowerFailsAtEveryCall: at each call to the kernel that a Save makes the
// power fails, or the call does, wholly or half done. Whatever part of what was
// not synced survives: the old copy or the new one is there, whole, and the
// next Save succeeds. A Save that returned well is there always.
func TestPowerFailsAtEveryCall(t *testing.T) {
	const path = "dir/state"
	ctx := context.Background()
	prepare := func(copies int) (*disk, string) {
		d := newDisk()
		version := ""
		for n := 1; n <= copies; n++ {
			saved := stateOf(n)
			saved.Version = version
			var err error
			if version, err = (&Store{path, d}).Save(ctx, saved); err != nil {
				t.Fatal(err)
			}
		}
		d.calls = 0
		return d, version
	}
	tried := 0
	for _, before := range []int{0, 1, 2} {
		calm, version := prepare(before)
		saved := stateOf(before + 1)
		saved.Version = version
		if _, err := (&Store{path, calm}).Save(ctx, saved); err != nil {
			t.Fatal(err)
		}
		if calm.calls < 5 {
			t.Fatalf("a Save makes %d calls: they are not counted", calm.calls)
		}
		for at := 0; at <= calm.calls; at++ {
			for _, power := range []bool{true, false} {
				for _, half := range []bool{true, false} {
					d, version := prepare(before)
					saved := stateOf(before + 1)
					saved.Version = version
					d.fail = func(n int) (error, bool) {
						// Without power nothing after it happens; an error is one call's.
						if n == at || power && n > at {
							return errPower, half
						}
						return nil, false
					}
					_, err := (&Store{path, d}).Save(ctx, saved)
					d.fail = nil
					found := []*disk{d}
					if power || err == nil {
						found = append(found, d.afterPowerLoss()...)
					}
					for i, disk := range found {
						tried++
						where := fmt.Sprintf("%d copies before, call %d, power %v, half %v, disk %d", before, at, power, half, i)
						s := &Store{path, disk}
						got, lerr := s.Load(ctx)
						if lerr != nil {
							t.Fatalf("%s: %v", where, lerr)
						}
						if got.State.N != before && got.State.N != before+1 {
							t.Fatalf("%s: N=%d", where, got.State.N)
						}
						if err == nil && got.State.N != before+1 {
							t.Fatalf("%s: Save said that it was done, and N=%d", where, got.State.N)
						}
						if n := got.State.N; n > 0 && string(got.Evidence) != string(stateOf(n).Evidence) {
							t.Fatalf("%s: N=%d with evidence %s", where, n, got.Evidence)
						}
						got.State.N = 77
						if _, err := s.Save(ctx, got); err != nil {
							t.Fatalf("%s: the next Save: %v", where, err)
						}
						if again, err := s.Load(ctx); err != nil || again.State.N != 77 {
							t.Fatalf("%s: after the next Save N=%d, %v", where, again.State.N, err)
						}
					}
				}
			}
		}
	}
	t.Logf("%d disks looked at", tried)
}

// The same, with the steps in a careless order, must fail: the test can.
func TestPowerFailureFindsCarelessness(t *testing.T) {
	d := newDisk()
	data, _, err := encode(content{Copy: 1, State: stateOf(1).State})
	if err != nil {
		t.Fatal(err)
	}
	// Renamed before it was synced.
	i := &inode{data: data}
	d.name(func(m map[string]*inode) { m["dir/state"] = i })
	torn := 0
	for _, disk := range d.afterPowerLoss() {
		var damaged *DamagedError
		if _, err := (&Store{"dir/state", disk}).Load(context.Background()); errors.As(err, &damaged) {
			torn++
		}
	}
	if torn == 0 {
		t.Error("no torn file was found after a rename without a sync")
	}
}
