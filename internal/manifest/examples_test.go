package manifest

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// What we show to others is read without a problem and without a finding.
func TestExamplesAreGood(t *testing.T) {
	folders := map[string]int{"founding": 1, "minimal": 1, "in-place": 1, "hosts": 1}
	found, err := os.ReadDir("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range found {
		if d.IsDir() && folders[d.Name()] == 0 && len(readDir(t, filepath.Join("../../examples", d.Name()))) > 0 {
			t.Errorf("examples/%s is not tested", d.Name())
		}
	}
	for name, versions := range folders {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("../../examples", name)
			files := readDir(t, dir)
			app := onlyApp(t, files)
			if len(app.Versions) != versions {
				t.Errorf("%d versions", len(app.Versions))
			}
			// The next version is one file more.
			next := readDir(t, filepath.Join(dir, "next"))
			if len(next) == 0 {
				return
			}
			for k, v := range next {
				files[k] = v
			}
			if app := onlyApp(t, files); len(app.Versions) != versions+1 {
				t.Errorf("%d versions with the next one", len(app.Versions))
			}
		})
	}
}

func readDir(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type()&fs.ModeDir == 0 && IsManifest(e.Name()) {
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			files[e.Name()] = data
		}
	}
	return files
}

func onlyApp(t *testing.T, files map[string][]byte) App {
	t.Helper()
	set, problems := Load(files, articleRun)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if len(set.Apps) != 1 {
		t.Fatalf("%d apps", len(set.Apps))
	}
	if f := set.Apps[0].Findings; len(f) > 0 {
		t.Errorf("%+v", f)
	}
	if len(set.Notes) > 0 {
		t.Errorf("%v", set.Notes)
	}
	return set.Apps[0]
}
