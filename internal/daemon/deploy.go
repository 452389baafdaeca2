package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/manifest"
	"github.com/serin-dev/serin/internal/rollout"
)

// deployedPrefix begins the names of the files that `serin deploy` writes, in
// messages: the folder's own files have no slash.
const deployedPrefix = "serin deploy/"

// deployedByCommand reports whether a version is in no file of the folder.
func deployedByCommand(a manifest.App, label string) bool {
	for _, v := range a.Versions {
		if v.Label == label {
			return strings.HasPrefix(v.File, deployedPrefix)
		}
	}
	return false
}

// readDeployed gives the documents that were deployed by command.
func (d *Daemon) readDeployed() (map[string]string, error) {
	files, err := readFolder(d.deployDir())
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	out := map[string]string{}
	for name, b := range files {
		out[deployedPrefix+name] = b
	}
	return out, err
}

func (d *Daemon) deployDir() string { return filepath.Join(d.o.StateDir, "deployed") }

// Deploy makes a new version known without a file in the user's folder: a
// Deployment like the newest one there, with another command.
func (d *Daemon) Deploy(ctx context.Context, ref httpapi.Ref, q httpapi.Deploy) (httpapi.Deployed, error) {
	if problems := checkDeploy(q); len(problems) > 0 {
		return httpapi.Deployed{}, &httpapi.Invalid{Problems: problems}
	}
	d.loading.Lock()
	defer d.loading.Unlock()
	a := d.app(nameOf(ref))
	if a == nil {
		_, err := d.Views.Get(ctx, ref) // says which there are
		if err == nil {
			err = httpapi.ErrNotFound
		}
		return httpapi.Deployed{}, err
	}
	p := a.planNow()
	stable, label, err := a.model(p, q)
	if err != nil {
		return httpapi.Deployed{}, err
	}
	doc := deploymentFor(p.doc, stable, label, q)
	b, err := yaml.Marshal(doc)
	if err != nil {
		return httpapi.Deployed{}, fmt.Errorf("writing the Deployment: %w", err)
	}
	name := doc.Metadata.Name
	file := filepath.Join(d.deployDir(), fileName(p.name)+"-"+q.Version+".yaml")
	maker := fmt.Sprintf("serin deploy %s --version %s", p.name, q.Version)
	header := fmt.Sprintf("# Made by `%s`. A Deployment of this version in the folder takes its place.\n", maker)

	// Understood first, kept second, in force third.
	deployed, err := d.readDeployed()
	if err != nil {
		return httpapi.Deployed{}, err
	}
	key := deployedPrefix + filepath.Base(file)
	before, replaced := deployed[key]
	if by := madeBy(before); replaced && by != maker {
		return httpapi.Deployed{}, &httpapi.Refusal{Why: fmt.Sprintf("%s would be called %s, and so is what `%s` has made (%s): give the version another name", q.Version, name, by, file)}
	}
	deployed[key] = header + string(b)
	if before == deployed[key] {
		how := "nothing was changed."
		if a.condemned(p, q.Version) {
			how += fmt.Sprintf(" It was taken back and gets no traffic: `serin retry %s --revision %s` tries it again, where nothing newer was taken back.", p.name, q.Version)
		}
		return httpapi.Deployed{Name: name, File: file, Message: fmt.Sprintf("%s is deployed so already: %s", q.Version, how)}, nil
	}
	folder := d.folderInForce()
	with := maps.Clone(folder)
	with[key] = deployed[key]
	if _, err := loadSet(with, d.o.Run); err != nil {
		return httpapi.Deployed{}, &httpapi.Invalid{Problems: strings.Split(err.Error(), "\n")[1:]}
	}
	if err := os.MkdirAll(d.deployDir(), 0o700); err != nil {
		return httpapi.Deployed{}, err
	}
	if err := writeDurably(file, []byte(deployed[key])); err != nil {
		return httpapi.Deployed{}, fmt.Errorf("keeping the Deployment: %w", err)
	}
	if err := d.reload(ctx, folder, deployed); err != nil {
		return httpapi.Deployed{}, err
	}
	d.log.Info("a version was deployed by command", "app", p.name, "version", q.Version, "by", q.By, "reason", q.Reason, "command", q.Command)
	verb := "is there: a rollout from %s to it starts as soon as its replicas are ready."
	if replaced {
		verb = "was changed: a rollout from %s to what it is now starts as soon as its replicas are ready."
	}
	return httpapi.Deployed{Name: name, File: file, Message: fmt.Sprintf("%s "+verb, q.Version, stable.Label)}, nil
}

// madeBy is the command that made a file, as its first line says.
func madeBy(file string) string {
	line, _, _ := strings.Cut(file, "\n")
	_, command, _ := strings.Cut(line, "`")
	command, _, _ = strings.Cut(command, "`")
	return cmp.Or(command, "somebody else")
}

func checkDeploy(q httpapi.Deploy) []string {
	var out []string
	if msgs := validation.IsDNS1123Subdomain(q.Version); len(msgs) > 0 {
		out = append(out, fmt.Sprintf("version: %q cannot be a version's name here: %s", q.Version, msgs[0]))
	} else if msgs := validation.IsValidLabelValue(q.Version); len(msgs) > 0 {
		out = append(out, fmt.Sprintf("version: %q: %s", q.Version, msgs[0]))
	}
	if len(q.Command) == 0 || q.Command[0] == "" {
		out = append(out, "command: is missing: give the program and its arguments after --")
	}
	if q.Dir != "" && !filepath.IsAbs(q.Dir) {
		out = append(out, fmt.Sprintf("dir: %q: an absolute folder is meant", q.Dir))
	}
	if q.Replicas != nil && (*q.Replicas < 0 || *q.Replicas > 100) {
		out = append(out, fmt.Sprintf("replicas: %d: from 0 to 100 are meant", *q.Replicas))
	}
	for k := range q.Env {
		if k == "" || strings.ContainsAny(k, "=\x00") {
			out = append(out, fmt.Sprintf("env: %q cannot be a variable's name", k))
		}
	}
	return out
}

// model finds the version that a deployed one is made after: stable, or the
// newest there is.
func (a *app) model(p plan, q httpapi.Deploy) (manifest.Version, string, error) {
	if p.doc.InPlace {
		return manifest.Version{}, "", &httpapi.Refusal{Why: fmt.Sprintf("%s is one Deployment that is edited in place: edit it in %s, or tell versions apart by a label (workload.versions)", p.name, fileOf(p.doc))}
	}
	for _, v := range p.doc.Versions {
		if v.Label == q.Version && !strings.HasPrefix(v.File, deployedPrefix) {
			return manifest.Version{}, "", &httpapi.Refusal{Why: fmt.Sprintf("%s of %s is defined in %s: edit it there, or give the new version another name", q.Version, p.name, v.File)}
		}
	}
	a.mu.Lock()
	var stable rollout.Revision
	if a.seen != nil {
		stable = a.seen.result.State.Stable.Revision
	}
	a.mu.Unlock()
	var best *manifest.Version
	for i, v := range p.doc.Versions {
		if v.Label == stable.Label() {
			best = &p.doc.Versions[i]
			break
		}
		if v.Label != q.Version {
			best = &p.doc.Versions[i]
		}
	}
	if best == nil {
		return manifest.Version{}, "", &httpapi.Refusal{Why: fmt.Sprintf("%s has no version in the folder to make another one after: add a Deployment first", p.name)}
	}
	return *best, p.doc.Label, nil
}

// condemned reports whether the version, as it is wanted now, was taken back.
func (a *app) condemned(p plan, label string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil {
		return false
	}
	for _, r := range a.seen.result.State.FailedRevisions() {
		for _, w := range p.wanted {
			if w.Label == label && r.Label() == label && r.Hash() == w.Hash {
				return true
			}
		}
	}
	return false
}

func fileOf(a manifest.App) string {
	for _, v := range a.Versions {
		return v.File
	}
	return "the folder"
}

// fileName makes an application's name fit for a file: "_" occurs in no
// Kubernetes name.
func fileName(app string) string { return strings.ReplaceAll(app, "/", "_") }

// deployment is the part of a Deployment that is written.
type deployment struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Metadata   meta       `json:"metadata"`
	Spec       deploySpec `json:"spec"`
}

type meta struct {
	Name      string            `json:"name,omitempty"`
	Namespace string            `json:"namespace,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

type deploySpec struct {
	Replicas int `json:"replicas"`
	Selector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	Template struct {
		Metadata meta `json:"metadata"`
		Spec     struct {
			TerminationGracePeriodSeconds int64       `json:"terminationGracePeriodSeconds"`
			Containers                    []container `json:"containers"`
		} `json:"spec"`
	} `json:"template"`
}

type container struct {
	Name           string     `json:"name"`
	Command        []string   `json:"command"`
	WorkingDir     string     `json:"workingDir,omitempty"`
	Env            []env      `json:"env,omitempty"`
	Ports          []port     `json:"ports,omitempty"`
	ReadinessProbe *readiness `json:"readinessProbe,omitempty"`
}

type env struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type port struct {
	Name          string `json:"name,omitempty"`
	ContainerPort int    `json:"containerPort"`
}

type readiness struct {
	HTTPGet             *httpGet   `json:"httpGet,omitempty"`
	TCPSocket           *tcpSocket `json:"tcpSocket,omitempty"`
	InitialDelaySeconds int64      `json:"initialDelaySeconds,omitempty"`
	PeriodSeconds       int64      `json:"periodSeconds,omitempty"`
	TimeoutSeconds      int64      `json:"timeoutSeconds,omitempty"`
	SuccessThreshold    int        `json:"successThreshold,omitempty"`
	FailureThreshold    int        `json:"failureThreshold,omitempty"`
}

type httpGet struct {
	Path        string `json:"path"`
	Port        int    `json:"port"`
	Scheme      string `json:"scheme,omitempty"`
	HTTPHeaders []env  `json:"httpHeaders,omitempty"`
}

type tcpSocket struct {
	Port int `json:"port"`
}

// deploymentFor is a Deployment like the model, of another version and with
// another command.
func deploymentFor(a manifest.App, model manifest.Version, label string, q httpapi.Deploy) deployment {
	d := deployment{APIVersion: "apps/v1", Kind: "Deployment"}
	d.Metadata = meta{Name: a.Name + "-" + q.Version}
	if a.Namespace != defaultNamespace {
		d.Metadata.Namespace = a.Namespace
	}
	labels := maps.Clone(model.Labels)
	labels[label] = q.Version
	d.Spec.Replicas = model.Replicas
	if q.Replicas != nil {
		d.Spec.Replicas = *q.Replicas
	}
	d.Spec.Selector.MatchLabels = labels
	d.Spec.Template.Metadata.Labels = labels
	d.Spec.Template.Spec.TerminationGracePeriodSeconds = int64(model.Grace.Seconds())
	c := container{Name: "app", Command: q.Command, WorkingDir: q.Dir}
	own := model.ContainerPort
	if own > 0 {
		c.Ports = []port{{ContainerPort: own}}
		if name := a.Service.TargetPort; name != "" && (name[0] < '0' || name[0] > '9') {
			c.Ports[0].Name = name
		}
	}
	vars := map[string]string{}
	var order []string
	set := func(k, v string) {
		if _, there := vars[k]; !there {
			order = append(order, k)
		}
		vars[k] = v
	}
	for _, e := range model.Env {
		set(e.Name, e.Value)
	}
	for _, k := range slices.Sorted(maps.Keys(q.Env)) {
		set(k, q.Env[k])
	}
	for _, k := range order {
		c.Env = append(c.Env, env{k, vars[k]})
	}
	r := model.Ready
	probe := readiness{
		InitialDelaySeconds: int64(r.InitialDelay.Seconds()), PeriodSeconds: int64(r.Period.Seconds()), TimeoutSeconds: int64(r.Timeout.Seconds()),
		SuccessThreshold: r.SuccessThreshold, FailureThreshold: r.FailureThreshold,
	}
	switch {
	case r.HTTP != nil:
		probe.HTTPGet = &httpGet{Path: r.HTTP.Path, Port: own}
		if r.HTTP.HTTPS {
			probe.HTTPGet.Scheme = "HTTPS"
		}
		for _, h := range r.HTTP.Headers {
			probe.HTTPGet.HTTPHeaders = append(probe.HTTPGet.HTTPHeaders, env(h))
		}
		c.ReadinessProbe = &probe
	case probe != readiness{}:
		probe.TCPSocket = &tcpSocket{Port: own}
		c.ReadinessProbe = &probe
	}
	d.Spec.Template.Spec.Containers = []container{c}
	return d
}
