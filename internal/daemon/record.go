package daemon

import (
	"path/filepath"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/store/file"
)

func (d *Daemon) openStore(app string) (engine.Store, error) {
	return file.Open(filepath.Join(d.o.StateDir, "rollouts", fileName(app)+".state"))
}

type recorder struct{ file string }

func (d *Daemon) openRecord(app string) (*recorder, error) {
	return &recorder{file: filepath.Join(d.o.StateDir, "records", fileName(app)+".jsonl")}, nil
}

func (r *recorder) add(*app, engine.Result) {}
func (r *recorder) path() string            { return r.file }
func (r *recorder) close() error            { return nil }
