package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// maxFile bounds one file; the reader of the documents has bounds of its own.
	maxFile = 4 << 20
	// quietFor is how long nothing may have changed before the folder is read:
	// an editor writes a file in several steps.
	quietFor = 150 * time.Millisecond
	// hurry ends the wait for quiet when files keep changing.
	hurry = 2 * time.Second
	// pollEvery is how often the folder is looked at, for what the kernel does
	// not tell (a network file system, too many watches, a replaced folder).
	pollEvery = 3 * time.Second
)

// readFolder gives the documents of a folder by file name: what ends in .yaml,
// .yml or .json, without hidden files and editors' backups. Symbolic links are
// followed.
func readFolder(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the folder: %w", err)
	}
	files := map[string]string{}
	var errs []error
	for _, e := range entries {
		if !isDocument(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // went between the listing and now; the next look tells
		}
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case info.IsDir():
			continue
		case !info.Mode().IsRegular():
			errs = append(errs, fmt.Errorf("%s is not a regular file", e.Name()))
			continue
		case info.Size() > maxFile:
			errs = append(errs, fmt.Errorf("%s has %d bytes; at most %d are read", e.Name(), info.Size(), maxFile))
			continue
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		files[e.Name()] = string(b)
	}
	return files, errors.Join(errs...)
}

func isDocument(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasSuffix(name, "~") {
		return false
	}
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

// watchFolder calls changed after the folder has come to differ from last and
// is at rest, until ctx ends. A folder that goes and comes back is found again.
// While changed says so it is called again and again, at pollEvery's pace.
//
// Invariant: changed is given what the next look is compared with. Were it to
// read for itself, it could get what somebody is writing just then, and nobody
// would notice that the folder is soon as it was.
func watchFolder(ctx context.Context, dir string, last map[string]string, log *slog.Logger, changed func(files map[string]string, err error) (again bool)) {
	var events <-chan fsnotify.Event
	var faults <-chan error
	w, err := fsnotify.NewWatcher()
	if err == nil {
		defer w.Close()
		if err = w.Add(dir); err == nil {
			events, faults = w.Events, w.Errors
		}
	}
	if err != nil {
		log.Warn("the kernel does not tell of changes in the folder; it is looked at every few seconds", "dir", dir, "why", err)
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	var quiet <-chan time.Time
	var since time.Time
	touch := func() {
		if quiet == nil {
			since = time.Now()
		}
		quiet = time.After(min(quietFor, max(0, hurry-time.Since(since))))
	}
	touch() // what happened before anybody watched
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if isDocument(filepath.Base(e.Name)) && e.Op != fsnotify.Chmod {
				touch()
			}
		case err := <-faults:
			log.Warn("watching the folder", "dir", dir, "err", err)
			touch()
		case <-poll.C:
			// Also heals what the kernel did not tell, and a folder that was replaced.
			if now, err := readFolder(dir); err == nil && !maps.Equal(now, last) && quiet == nil {
				touch()
			}
			if w != nil && events != nil {
				_ = w.Add(dir)
			}
		case <-quiet:
			quiet = nil
			now, err := readFolder(dir)
			if err == nil && maps.Equal(now, last) {
				continue
			}
			last = now
			if changed(now, err) {
				last = nil
			}
		}
	}
}
