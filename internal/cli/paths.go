package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
)

// Where things are. A daemon's state is under the user's state folder, by the
// folder it runs, so that two daemons for two folders never meet. Its socket is
// in the user's runtime folder, where every verb looks.

// stateHome is $XDG_STATE_HOME/serin, or ~/.local/state/serin.
func (a *app) stateHome() string {
	if d := a.Env("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "serin")
	}
	home := a.Env("HOME")
	if home == "" {
		home, _ = os.UserHomeDir()
	}
	return filepath.Join(home, ".local", "state", "serin")
}

// runDir is where sockets are: $XDG_RUNTIME_DIR/serin, or run beside the states.
func (a *app) runDir() string {
	if d := a.Env("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		return filepath.Join(d, "serin")
	}
	return filepath.Join(a.stateHome(), "run")
}

// stateDir is the default for a folder of documents.
func (a *app) stateDir(dir string) string {
	return filepath.Join(a.stateHome(), keyOf(dir, dir))
}

// socketPath is the default for a folder of documents and its state.
func (a *app) socketPath(dir, state string) string {
	return filepath.Join(a.runDir(), keyOf(dir, state)+".sock")
}

// keyOf is short (a unix socket's path is) and can be read.
func keyOf(dir, unique string) string {
	name := filepath.Base(dir)
	if len(name) > 16 {
		name = name[:16]
	}
	sum := sha256.Sum256([]byte(unique))
	return name + "-" + hex.EncodeToString(sum[:4])
}
