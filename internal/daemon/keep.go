package daemon

import (
	"os"
	"path/filepath"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/record"
	"github.com/serin-dev/serin/internal/store/file"
)

// openStore gives the file that holds an application's state.
func (d *Daemon) openStore(app string) (engine.Store, error) {
	return file.Open(filepath.Join(d.o.StateDir, "rollouts", fileName(app)+".state"))
}

// openRecord goes on with an application's observation record.
func (d *Daemon) openRecord(app string) (*record.Writer, string, error) {
	path := filepath.Join(d.o.StateDir, "records", fileName(app)+".jsonl")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, "", err
	}
	w, err := record.OpenWriter(path, d.o.RecordBytes)
	return w, path, err
}
