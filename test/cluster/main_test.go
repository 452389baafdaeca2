package cluster

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serin-dev/serin/test/cluster/lab"
)

// the is the one cluster of this test binary.
var the *lab.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	lab.Main(func(ctx context.Context, w lab.World) int {
		c, err := lab.Start(ctx, w, lab.Options{Print: os.Stderr})
		if err != nil {
			fmt.Fprintln(os.Stderr, "the test cluster:", err)
			return 1
		}
		defer func() {
			begun := time.Now()
			c.Stop()
			fmt.Fprintf(os.Stderr, "stopped in %s\n", time.Since(begun).Round(time.Millisecond))
		}()
		if err := c.Install(ctx, lab.ClusterWide); err != nil {
			fmt.Fprintln(os.Stderr, "installing Serin's own objects:", err)
			return 1
		}
		the = c
		chosen := flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != ""
		code := m.Run()
		if shared.k != nil {
			shared.k.End()
		}
		return finish(ctx, code, !chosen)
	})
}

var spaces atomic.Int32

// namespace is a namespace of the test's own, and goes with it.
func namespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("t%d-%s", spaces.Add(1), strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, t.Name()))
	name = strings.TrimRight(name[:min(len(name), 40)], "-")
	if err := the.Namespace(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Not waited for: whoever ends it later ends it without the test.
		the.Clients.CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	return name
}

// file is a document of testdata.
func file(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// apply applies documents of testdata as the user's tool does.
func apply(t *testing.T, ns string, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := the.Apply(t.Context(), ns, file(t, n)); err != nil {
			t.Fatalf("%s: %v", n, err)
		}
	}
}

// eventually waits for something that must become true, with lab.Patience.
func eventually(t *testing.T, what string, ok func() (bool, error)) {
	t.Helper()
	if err := lab.Await(t.Context(), lab.Patience, what, ok); err != nil {
		t.Fatal(err)
	}
}

// listenLocal is a port of the space's loopback.
func listenLocal() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
