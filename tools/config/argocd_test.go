package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"
	"sigs.k8s.io/yaml"
)

// The health script in the interpreter that Argo CD runs it in. The first line
// of each file says what is wanted of it.
func TestArgoCDHealth(t *testing.T) {
	script, err := os.ReadFile(root + "/config/argocd/health.lua")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(root + "/config/argocd/testdata/*.yaml")
	if len(files) < 5 {
		t.Fatalf("%v", files)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(raw), "\n")
			want := strings.TrimPrefix(first, "# want: ")
			var obj any
			if err := yaml.Unmarshal(raw, &obj); err != nil {
				t.Fatal(err)
			}
			l := lua.NewState(lua.Options{SkipOpenLibs: true})
			defer l.Close()
			l.Push(l.NewFunction(lua.OpenBase))
			l.Call(0, 0)
			l.SetGlobal("obj", value(l, obj))
			if err := l.DoString(string(script)); err != nil {
				t.Fatal(err)
			}
			got, ok := l.Get(-1).(*lua.LTable)
			if !ok {
				t.Fatalf("it gives %v", l.Get(-1))
			}
			if status := got.RawGetString("status").String(); status != want {
				t.Errorf("%s, want %s", status, want)
			}
			if _, ok := got.RawGetString("message").(lua.LString); !ok {
				t.Error("no message")
			}
		})
	}
}

func value(l *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case map[string]any:
		t := l.NewTable()
		for k, e := range v {
			t.RawSetString(k, value(l, e))
		}
		return t
	case []any:
		t := l.NewTable()
		for _, e := range v {
			t.Append(value(l, e))
		}
		return t
	case string:
		return lua.LString(v)
	case float64:
		return lua.LNumber(v)
	case bool:
		return lua.LBool(v)
	}
	return lua.LNil
}
