package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A replay that waits for the next line ends when it is told to.
func TestReplayStops(t *testing.T) {
	doc := filepath.Join(t.TempDir(), "rollout.yaml")
	if err := os.WriteFile(doc, []byte(`
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}}}
  traffic: [{istio: {virtualService: my-app, destinationRule: my-app}}]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	in, lines := io.Pipe()
	defer lines.Close() // ends what still reads
	answers, out := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var said strings.Builder
	code := make(chan int)
	go func() {
		code <- Main(ctx, Program{Stdin: in, Stdout: out, Stderr: &said}, []string{"replay", "-f", doc, "-"})
	}()
	if _, err := io.WriteString(lines, `{"time":"2026-01-01T00:00:00Z","revisions":{"v1":{"ready":1}},"traffic":{"v1":100}}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := answers.Read(make([]byte, 1)); err != nil { // it is under way
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, answers) }()
	cancel()
	if got := <-code; got != 1 || !strings.Contains(said.String(), "stopped before the record ended") {
		t.Errorf("exit code %d, said %q", got, said.String())
	}
	out.Close()
}
