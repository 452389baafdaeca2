package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"os/user"
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
	return filepath.Join(a.home(), ".local", "state", "serin")
}

// home is $HOME, or what the system knows of the user where a service manager or
// a timer gives no $HOME: a relative folder would be another one for every verb.
func (a *app) home() string {
	if h := a.Env("HOME"); filepath.IsAbs(h) {
		return h
	}
	if u, err := user.Current(); err == nil && filepath.IsAbs(u.HomeDir) {
		return u.HomeDir
	}
	return "/"
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
