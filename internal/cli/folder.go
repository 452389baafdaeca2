package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/serin-dev/serin/internal/manifest"
)

// maxFile is more than the largest document that is read.
const maxFile = manifest.MaxTotal

// documents reads a folder's documents, or one file, by name.
func documents(path string) (map[string][]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		b, err := readBounded(path)
		if err != nil {
			return nil, err
		}
		return map[string][]byte{filepath.Base(path): b}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if !manifest.IsManifest(e.Name()) {
			continue
		}
		full := filepath.Join(path, e.Name())
		if info, err := os.Stat(full); err != nil || info.IsDir() {
			if err != nil {
				return nil, err
			}
			continue
		}
		if files[e.Name()], err = readBounded(full); err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no document: want files that end in .yaml, .yml or .json", path)
	}
	return files, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return b, nil
}
