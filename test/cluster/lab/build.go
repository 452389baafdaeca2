package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Tools are the programs of a cluster, as paths.
type Tools struct {
	Etcd, APIServer, ControllerManager, KWOK, Istiod string
	Prometheus                                       string
	XDS                                              string // the client of ./xds
	Serin                                            string
	// IstioCRDs and KWOKNode are files of their modules.
	IstioCRDs, KWOKNode string
}

// tool is one program to build: a package of a module below test/cluster.
type tool struct {
	name, module, pkg, ldflags string
	always                     bool // its sources are in this repository
	path                       *string
}

const k8sVersion = "v1.36.3"

// Build builds what is not built yet, but for serin itself where the variable
// SERIN_LAB_SERIN names one, and says on w what takes long. From
// nothing that is a quarter of an hour on two cores; afterwards the programs lie
// in test/cluster/.bin under the sum of what they were built from.
func Build(ctx context.Context, w io.Writer) (Tools, error) {
	root, err := clusterDir()
	if err != nil {
		return Tools{}, err
	}
	bin := filepath.Join(root, ".bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return Tools{}, err
	}
	// Two test runs must not build the same thing side by side.
	lock, err := os.OpenFile(filepath.Join(bin, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return Tools{}, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return Tools{}, fmt.Errorf("waiting for another build: %w", err)
	}
	var t Tools
	const base = "k8s.io/component-base/version"
	k8s := "-s -w -X " + base + ".gitVersion=" + k8sVersion + " -X " + base + ".gitMajor=1 -X " + base + ".gitMinor=36 -X " + base + ".gitTreeState=clean -X " +
		base + ".gitCommit=0000000000000000000000000000000000000000 -X " + base + ".buildDate=2026-01-01T00:00:00Z"
	for _, x := range []tool{
		{name: "etcd", module: "k8s", pkg: "go.etcd.io/etcd/server/v3", ldflags: k8s, path: &t.Etcd},
		{name: "kube-apiserver", module: "k8s", pkg: "k8s.io/kubernetes/cmd/kube-apiserver", ldflags: k8s, path: &t.APIServer},
		{name: "kube-controller-manager", module: "k8s", pkg: "k8s.io/kubernetes/cmd/kube-controller-manager", ldflags: k8s, path: &t.ControllerManager},
		{name: "kwok", module: "kwok", pkg: "sigs.k8s.io/kwok/cmd/kwok", ldflags: "-s -w", path: &t.KWOK},
		{name: "pilot-discovery", module: "istio", pkg: "istio.io/istio/pilot/cmd/pilot-discovery", ldflags: "-s -w", path: &t.Istiod},
		{name: "xds", module: "xds", pkg: ".", ldflags: "-s -w", always: true, path: &t.XDS},
		{name: "serin", module: "../..", pkg: "./cmd/serin", ldflags: "-s -w", always: true, path: &t.Serin},
	} {
		if p := os.Getenv("SERIN_LAB_SERIN"); p != "" && x.name == "serin" {
			t.Serin = p
			continue
		}
		if err := x.build(ctx, root, bin, w); err != nil {
			return Tools{}, err
		}
	}
	if t.Prometheus, err = exec.LookPath("prometheus"); err != nil {
		return Tools{}, fmt.Errorf("prometheus is not installed (Debian: apt-get install prometheus): %w", err)
	}
	istio, err := moduleDir(ctx, filepath.Join(root, "istio"), "istio.io/istio")
	if err != nil {
		return Tools{}, err
	}
	t.IstioCRDs = filepath.Join(istio, "manifests/charts/base/files/crd-all.gen.yaml")
	kwok, err := moduleDir(ctx, filepath.Join(root, "kwok"), "sigs.k8s.io/kwok")
	if err != nil {
		return Tools{}, err
	}
	t.KWOKNode = filepath.Join(kwok, "kustomize/stage/node/fast/node-initialize.yaml")
	return t, nil
}

func (x tool) build(ctx context.Context, root, bin string, w io.Writer) error {
	dir := filepath.Join(root, x.module)
	out := filepath.Join(bin, x.name)
	if !x.always {
		key, err := x.key(dir)
		if err != nil {
			return err
		}
		out += "-" + key
		if _, err := os.Stat(out); err == nil {
			*x.path = out
			return nil
		}
		fmt.Fprintf(w, "building %s, which is not cached and takes minutes ...\n", x.name)
	} else { // mostly nothing is to be done
		slow := time.AfterFunc(3*time.Second, func() { fmt.Fprintf(w, "building %s ...\n", x.name) })
		defer slow.Stop()
	}
	begun := time.Now()
	tmp := fmt.Sprintf("%s.%d", out, os.Getpid())
	defer os.Remove(tmp)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", x.ldflags, "-o", tmp, x.pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", x.name, err, bytes.TrimSpace(b))
	}
	if !x.always { // what other sums left behind
		old, _ := filepath.Glob(filepath.Join(bin, x.name+"-????????????????"))
		for _, o := range old {
			os.Remove(o)
		}
		fmt.Fprintf(w, "built %s in %s\n", x.name, time.Since(begun).Round(time.Second))
	}
	*x.path = out
	return os.Rename(tmp, out)
}

// key is the sum of all that the program is built from.
func (x tool) key(dir string) (string, error) {
	h := sha256.New()
	for _, f := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			return "", err
		}
		h.Write(b)
	}
	fmt.Fprint(h, x.pkg, x.ldflags, runtime.Version())
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

func moduleDir(ctx context.Context, dir, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-mod=mod", "-m", "-f", "{{.Dir}}", module)
	cmd.Dir = dir
	b, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("looking for the folder of %s: %w", module, err)
	}
	d := strings.TrimSpace(string(b))
	if d == "" {
		return "", fmt.Errorf("the module %s is not downloaded", module)
	}
	return d, nil
}

// clusterDir is test/cluster of this checkout: the folder of this module.
func clusterDir() (string, error) {
	if d := os.Getenv("SERIN_LAB_ROOT"); d != "" {
		return d, nil
	}
	cmd := exec.Command("go", "env", "GOMOD")
	b, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asking Go for the module: %w", err)
	}
	file := strings.TrimSpace(string(b))
	mod, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(mod, []byte("module github.com/serin-dev/serin/test/cluster\n")) {
		return "", errors.New("start this in test/cluster (go -C test/cluster run ./cmd/...)")
	}
	return filepath.Dir(file), nil
}

func (t Tools) String() string {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings only
	}
	return string(b)
}
