package daemon

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/serin-dev/serin/internal/manifest"
)

// documents is what the folder and `serin deploy` ask for together.
type documents struct {
	set   *manifest.Set
	plans []plan
	files map[string]string // what it was made of
}

// ErrDocuments is what the error of a set that was not understood wraps; the
// rest of it lists every problem, one a line.
var ErrDocuments = errors.New("the documents are not understood")

// loadDocuments reads the folder's files and, on top of them, what was deployed
// by command. A deployed version that the folder has come to define itself is
// left out: the folder's counts.
func loadDocuments(folder, deployed map[string]string, run map[string][]string, cwd string) (documents, []string, error) {
	set, err := loadSet(folder, run)
	if err != nil {
		return documents{}, nil, err
	}
	files := maps.Clone(folder)
	var said []string
	for _, name := range slices.Sorted(maps.Keys(deployed)) {
		with := maps.Clone(files)
		with[name] = deployed[name]
		more, err := loadSet(with, run)
		if err != nil {
			said = append(said, fmt.Sprintf("%s, made by `serin deploy`, is left out: %v", filepath.Base(name), strings.TrimPrefix(err.Error(), ErrDocuments.Error()+":\n")))
			continue
		}
		set, files = more, with
	}
	d := documents{set: set, files: files}
	var errs []error
	for _, a := range set.Apps {
		p, err := planOf(a, cwd)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		d.plans = append(d.plans, p)
	}
	if err := errors.Join(errs...); err != nil {
		return documents{}, nil, fmt.Errorf("%w:\n%w", ErrDocuments, err)
	}
	return d, said, nil
}

func loadSet(files map[string]string, run map[string][]string) (*manifest.Set, error) {
	raw := make(map[string][]byte, len(files))
	for name, b := range files {
		raw[name] = []byte(b)
	}
	set, problems := manifest.Load(raw, manifest.Options{Run: run})
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("%w:\n%w", ErrDocuments, err)
	}
	return set, nil
}
