package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// findProgram returns the file that name means in dir with the given PATH, or
// an error that says in words why it cannot be started.
func findProgram(name, dir, path string) (string, error) {
	if info, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("working directory %s: %s", dir, inWords(err))
	} else if !info.IsDir() {
		return "", fmt.Errorf("working directory %s: is no directory", dir)
	}
	if strings.Contains(name, "/") {
		file := name
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		if err := executable(file); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return file, nil
	}
	for _, d := range filepath.SplitList(path) {
		if !filepath.IsAbs(d) { // a relative entry of PATH is relative to where the command runs
			d = filepath.Join(dir, d)
		}
		if file := filepath.Join(d, name); executable(file) == nil {
			return file, nil
		}
	}
	if executable(filepath.Join(dir, name)) == nil {
		return "", fmt.Errorf("%s: not found in PATH (there is one in the working directory: ./%s)", name, name)
	}
	return "", fmt.Errorf("%s: not found in PATH", name)
}

func executable(file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return errors.New(inWords(err))
	case info.IsDir():
		return errors.New("is a directory")
	case info.Mode()&0o111 == 0:
		return errors.New("is not executable (chmod +x)")
	}
	return nil
}

// startFailure says why the kernel refused to start a file that findProgram found.
func startFailure(name string, errno syscall.Errno) string {
	switch errno {
	case syscall.ENOEXEC:
		return name + ": is neither a program for this machine nor a script with a #! line"
	case syscall.ENOENT:
		return name + ": the interpreter that it asks for does not exist"
	case syscall.EACCES:
		return name + ": permission denied"
	}
	return name + ": " + errno.Error()
}

// inWords is the heart of an error, without the operation and the address that
// the sentence around it names already.
func inWords(err error) string {
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "no such file"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed without an answer"
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return oneLine(err.Error())
		}
		err = inner
	}
}

// ending is how a run ended.
type ending struct {
	failed  string        // the command could not be started, and why
	status  exitStatus    // of the command's own process
	after   time.Duration // from start to end
	words   string        // the line of its output that says most
	readies time.Duration // how long it was ready
	cpu     float64       // seconds, whole tree; 0 where the shim could not tell
	lost    bool          // the shim died first
}

// sentence says why a replica does not run any more.
func (e ending) sentence() string {
	var s string
	switch {
	case e.failed != "":
		return e.failed
	case e.lost:
		s = fmt.Sprintf("was killed together with its shim after %s", inSeconds(e.after))
	case e.status.Signal != 0:
		s = fmt.Sprintf("was killed by signal %d (%s) after %s", e.status.Signal, syscall.Signal(e.status.Signal), inSeconds(e.after))
	default:
		s = fmt.Sprintf("exited with %d after %s", e.status.Code, inSeconds(e.after))
	}
	if e.words != "" {
		s += ": " + e.words
	}
	return s
}

// inSeconds writes a duration as people say it: "12 ms", "0.2 s", "30 s", "2m5s".
func inSeconds(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 9950*time.Millisecond:
		return strings.Replace(fmt.Sprintf("%.1f s", d.Seconds()), ".0 s", " s", 1)
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// oneLine makes foreign output fit for a sentence: no control characters (a
// terminal would obey them) and no more than 300 characters.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if r := []rune(s); len(r) > 300 {
		s = string(r[:299]) + "…"
	}
	return s
}

// lastWords keeps the line of a run's output that explains its end best: where
// a Go program panicked the panic, else the last line on stderr, else on stdout.
type lastWords struct{ panicked, stderr, stdout string }

func (w *lastWords) hear(stream Stream, text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	switch {
	case stream == Stdout:
		w.stdout = text
	case w.panicked == "" && (strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ")):
		w.panicked = text
	default:
		w.stderr = text
	}
}

func (w *lastWords) best() string {
	for _, s := range []string{w.panicked, w.stderr, w.stdout} {
		if s = oneLine(s); s != "" {
			return s
		}
	}
	return ""
}
