package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/serin-dev/serin/internal/workload/versions"
)

// memory is what the daemon itself has to remember across restarts, beside the
// state of each rollout: which versions there were since when and how they are
// run, and the last documents that could be understood. It is one file,
// replaced whole.
type memory struct {
	path string

	mu   sync.Mutex
	data memoryData
}

type memoryData struct {
	Schema int `json:"schema"`
	// Dir is the folder that the rest is about.
	Dir string `json:"dir"`
	// Books are the versions of each application.
	Books map[string]versions.Book `json:"books,omitempty"`
	// Good are the files of the last set that was put in force, by name.
	Good map[string]string `json:"good,omitempty"`
}

const memorySchema = 1

// openMemory reads the file at path; one that does not exist is empty. The
// documents in it count only for the folder that they came from.
func openMemory(path, dir string) (*memory, error) {
	m := &memory{path: path, data: memoryData{Schema: memorySchema, Dir: dir, Books: map[string]versions.Book{}}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what the daemon remembers: %w", err)
	}
	var d memoryData
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; move it away to start with nothing remembered", path, err)
	}
	if d.Schema > memorySchema {
		return nil, fmt.Errorf("%s was written by a later serin (schema %d, this one reads %d)", path, d.Schema, memorySchema)
	}
	if d.Books == nil {
		d.Books = map[string]versions.Book{}
	}
	if d.Dir != dir {
		d.Dir, d.Good = dir, nil
	}
	m.data = d
	return m, nil
}

func (m *memory) book(app string) versions.Book {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data.Books[app]
}

func (m *memory) good() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.data.Good)
}

// saveBook keeps one application's versions. When it cannot be written, the
// next save of anything writes it too.
func (m *memory) saveBook(app string, b versions.Book) error {
	return m.change(func(d *memoryData) { d.Books[app] = b })
}

func (m *memory) saveGood(files map[string]string) error {
	m.mu.Lock()
	same := maps.Equal(m.data.Good, files)
	m.mu.Unlock()
	if same {
		return nil
	}
	return m.change(func(d *memoryData) { d.Good = maps.Clone(files) })
}

func (m *memory) change(do func(*memoryData)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	do(&m.data)
	b, err := json.Marshal(m.data)
	if err != nil {
		return err
	}
	return writeDurably(m.path, b)
}

// writeDurably replaces a file whole: after a crash at any moment it holds the
// old bytes or the new ones, and after it has returned the new ones.
func writeDurably(path string, b []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
