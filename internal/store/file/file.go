package file

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// format is raised when an older program could no longer read the file.
const format = 1

// magic begins every state file.
const magic = "serin-state "

// maxBytes bounds what is read: a state is some tens of KiB.
const maxBytes = 64 << 20

// Store keeps one rollout's state in the file at its path.
type Store struct {
	path string
	fs   filesystem
}

// Open names the file. Its folder is made if it is not there; the file is not
// touched.
func Open(path string) (*Store, error) {
	if err := (osFS{}).MkdirAll(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("making the folder of the state file: %w", err)
	}
	return &Store{path: path, fs: osFS{}}, nil
}

// Path is where the state is kept.
func (s *Store) Path() string { return s.path }

// content is what the file holds after its first line.
type content struct {
	Copy     int           `json:"copy"` // counts the saves
	State    rollout.State `json:"state"`
	Evidence []byte        `json:"evidence,omitempty"`
	Told     int           `json:"told,omitempty"`
}

// DamagedError says that a file is not the whole state that was once written,
// and what a person can do. Nothing overwrites such a file.
type DamagedError struct {
	Path   string
	Why    string // what is wrong with it
	Remedy string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the state file %s %s. %s", e.Path, e.Why, e.Remedy)
}

// Unwrap says that trying again does not help.
func (e *DamagedError) Unwrap() error { return engine.ErrRefused }

// Load reads the stored copy. A file that is not there is an empty Saved.
func (s *Store) Load(ctx context.Context) (engine.Saved, error) {
	if err := ctx.Err(); err != nil {
		return engine.Saved{}, err
	}
	c, version, err := s.read()
	if err != nil || version == "" {
		return engine.Saved{}, err
	}
	return engine.Saved{State: c.State, Evidence: c.Evidence, Told: c.Told, Version: version}, nil
}

func (s *Store) read() (content, string, error) {
	data, err := s.fs.ReadFile(s.path, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return content{}, "", nil
	}
	if err != nil {
		return content{}, "", fmt.Errorf("reading the state: %w", err)
	}
	c, version, bad := decode(data)
	if bad != nil {
		bad.Path = s.path
		if bad.Remedy == "" {
			bad.Remedy = s.remedy()
		}
		return content{}, "", bad
	}
	return c, version, nil
}

// remedy names the copy before, if that one is whole.
func (s *Store) remedy() string {
	prev := s.path + ".prev"
	if data, err := s.fs.ReadFile(prev, maxBytes); err == nil {
		if _, _, bad := decode(data); bad == nil {
			return fmt.Sprintf("The copy before it is whole: `mv %s %s` goes on from there.", prev, s.path)
		}
	}
	return fmt.Sprintf("Move it away (`mv %s %s.damaged`): the rollout then goes on from what the route says.", s.path, s.path)
}

// encode gives the file's bytes and the version that they are.
func encode(c content) (data []byte, version string, err error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, "", err
	}
	body = append(body, '\n')
	sum := sha256.Sum256(body)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%d sha256=%x bytes=%d\n", magic, format, sum, len(body))
	b.Write(body)
	return b.Bytes(), versionOf(c, sum), nil
}

func versionOf(c content, sum [sha256.Size]byte) string { return fmt.Sprintf("%d-%x", c.Copy, sum[:6]) }

// decode is the inverse of encode. What it cannot understand whole it refuses;
// a Remedy is given where the usual one would be wrong.
func decode(data []byte) (content, string, *DamagedError) {
	var c content
	bad := func(format string, args ...any) (content, string, *DamagedError) {
		return content{}, "", &DamagedError{Why: fmt.Sprintf(format, args...)}
	}
	if len(data) == 0 {
		return bad("is empty")
	}
	if !bytes.HasPrefix(data, []byte(magic)) {
		if bytes.HasPrefix([]byte(magic), data) {
			return bad("ends after %d bytes", len(data))
		}
		_, _, e := bad("is not one of Serin's: it begins with %q", data[:min(len(data), 16)])
		e.Remedy = "Name another place for the state, or move that file away."
		return content{}, "", e
	}
	line, body, found := bytes.Cut(data, []byte("\n"))
	if !found {
		return bad("ends in its first line")
	}
	var version, length int
	var sum string
	if n, err := fmt.Sscanf(strings.TrimPrefix(string(line), magic), "%d sha256=%s bytes=%d", &version, &sum, &length); version > format {
		_, _, e := bad("has format %d; this program knows formats up to %d", version, format)
		e.Remedy = "Run the later Serin that wrote it."
		return content{}, "", e
	} else if err != nil || n != 3 {
		return bad("has a first line that says nothing: %q", line)
	}
	if len(body) != length {
		return bad("is torn: it holds %d of %d bytes", len(body), length)
	}
	have := sha256.Sum256(body)
	if hex.EncodeToString(have[:]) != sum {
		return bad("was changed or is damaged: its checksum does not fit")
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return bad("cannot be understood: %v", err)
	}
	if c.State.Schema > rollout.SchemaVersion {
		_, _, e := bad("holds a state of schema %d; this program knows schemas up to %d", c.State.Schema, rollout.SchemaVersion)
		e.Remedy = "Run the later Serin that wrote it."
		return content{}, "", e
	}
	return c, versionOf(c, have), nil
}

// Save replaces the stored copy if its version is still the one given.
func (s *Store) Save(ctx context.Context, saved engine.Saved) (string, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	old, have, err := s.read()
	if err != nil {
		return "", err
	}
	if saved.Version != have {
		return "", fmt.Errorf("%s holds version %q, not %q: %w", s.path, have, saved.Version, engine.ErrConflict)
	}
	data, version, err := encode(content{Copy: old.Copy + 1, State: saved.State, Evidence: saved.Evidence, Told: saved.Told})
	if err != nil {
		return "", fmt.Errorf("encoding the state: %w", err)
	}
	if err := s.replace(data, have != ""); err != nil {
		return "", fmt.Errorf("writing the state: %w", err)
	}
	return version, nil
}

// replace is the order of system calls on which the package's promise rests.
func (s *Store) replace(data []byte, exists bool) error {
	fresh, prev := s.path+".new", s.path+".prev"
	if err := s.fs.WriteSynced(fresh, data); err != nil {
		_ = s.fs.Remove(fresh) // a half copy is of no use; the old one stays
		return err
	}
	if exists {
		// The copy before is a comfort, not a promise: some file systems have
		// no hard links, and the new copy matters more.
		_ = s.fs.Remove(prev + ".new")
		if s.fs.Link(s.path, prev+".new") == nil {
			_ = s.fs.Rename(prev+".new", prev)
		}
	}
	if err := s.fs.Rename(fresh, s.path); err != nil {
		_ = s.fs.Remove(fresh)
		return err
	}
	return s.fs.SyncDir(filepath.Dir(s.path))
}

// lock keeps other programs, and other Stores of this one, from replacing the
// file meanwhile.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		unlock, err := s.fs.TryLock(s.path + ".lock")
		switch {
		case err == nil:
			return unlock, nil
		case !errors.Is(err, errLocked):
			return nil, fmt.Errorf("locking the state: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
}
