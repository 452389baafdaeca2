package grafana

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"

	"github.com/serin-dev/serin/internal/metric/prometheus/prometheustest"
)

type dashboard struct {
	UID        string  `json:"uid"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []struct {
			Name string `json:"name"`
			Expr string `json:"expr"`
		} `json:"list"`
	} `json:"annotations"`
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct{ H, W, X, Y int }
	Datasource  struct{ UID string }
	Targets     []struct {
		RefID string `json:"refId"`
		Expr  string `json:"expr"`
	} `json:"targets"`
}

type rules struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []struct {
			Alert       string            `json:"alert"`
			Expr        string            `json:"expr"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"rules"`
	} `json:"groups"`
}

func read[T any](t *testing.T, file string) (out T) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return out
}

// filled is a query as Grafana sends it.
func filled(expr string) string {
	return strings.NewReplacer("$__rate_interval", "20s", "$__range", "10m", "$__interval", "5s", "$app", ".*", "$service", ".*", "$reporter", ".*").Replace(expr)
}

// queries are all of them, by where they stand.
func queries(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	d := read[dashboard](t, "serin.json")
	for _, p := range d.Panels {
		for _, x := range p.Targets {
			out[fmt.Sprintf("panel %q %s", p.Title, x.RefID)] = filled(x.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		if a.Expr != "" {
			out[fmt.Sprintf("annotation %q", a.Name)] = filled(a.Expr)
		}
	}
	for _, g := range read[rules](t, "alerts.yaml").Groups {
		for _, r := range g.Rules {
			out["alert "+r.Alert] = r.Expr
		}
	}
	if len(out) < 30 {
		t.Fatalf("only %d queries found", len(out))
	}
	return out
}

// exported are the metrics of a host's sources, with their labels.
func exported(t *testing.T, files ...string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	desc := regexp.MustCompile(`NewDesc\(\s*"(\w+)",\s*"[^"]*",\s*(\[\]string\{[^}]*\}|nil|versionLabels|[^;]*?),\s*nil\)`)
	opts := regexp.MustCompile(`Name: "(\w+)"[\s\S]*?\}(?:, (\[\]string\{[^}]*\}))?\)`)
	word := regexp.MustCompile(`"(\w+)"`)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var common []string
		if m := regexp.MustCompile(`(?s)versionLabels = (\[\]string\{[^}]*\})`).FindSubmatch(b); m != nil {
			for _, w := range word.FindAllSubmatch(m[1], -1) {
				common = append(common, string(w[1]))
			}
		}
		for _, m := range append(desc.FindAllSubmatch(b, -1), opts.FindAllSubmatch(b, -1)...) {
			var labels []string
			for _, w := range word.FindAllSubmatch(m[2], -1) {
				labels = append(labels, string(w[1]))
			}
			if bytes.Contains(m[2], []byte("versionLabels")) {
				labels = append(labels, common...)
			}
			out[string(m[1])] = labels
		}
	}
	if len(out) < 10 {
		t.Fatalf("only %d metrics found in %v", len(out), files)
	}
	return out
}

// told is what every host tells of its rollouts.
const told = "../internal/telemetry/telemetry.go"

func daemons(t *testing.T) map[string][]string {
	return exported(t, told, "../internal/daemon/meter.go", "../internal/gateway/metrics.go")
}

func controllers(t *testing.T) map[string][]string {
	return exported(t, told, "../internal/controller/meter.go")
}

// clusters tell what the controller does, and Istio's proxies.
func clusters(t *testing.T) map[string][]string {
	out := controllers(t)
	for _, n := range []string{"istio_requests_total", "istio_request_duration_milliseconds"} {
		out[n] = daemons(t)[n]
	}
	return out
}

// onlyInTrouble are counters that begin with the first event, which a Serin that
// does well never has.
var onlyInTrouble = map[string]bool{"serin_panics_total": true, "serin_invariant_violations_total": true}

// libraries are metrics that every Go program tells, and Istio's proxies.
var libraries = map[string]bool{"process_resident_memory_bytes": true, "process_cpu_seconds_total": true}

// selectors gives every metric that a query reads.
func selectors(t *testing.T, where, query string) []*parser.VectorSelector {
	t.Helper()
	expr, err := parse(query)
	if err != nil {
		t.Fatalf("%s: %v\n%s", where, err, query)
	}
	var out []*parser.VectorSelector
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			out = append(out, v)
		}
		return nil
	})
	return out
}

// Every query is one, and reads nothing that no host tells.
func TestQueriesReadWhatThereIs(t *testing.T) {
	all := map[string][]string{}
	for _, host := range []map[string][]string{daemons(t), controllers(t)} {
		for name, labels := range host {
			all[name] = append(all[name], labels...)
		}
	}
	for where, q := range queries(t) {
		for _, s := range selectors(t, where, q) {
			name := strings.TrimSuffix(s.Name, "_bucket")
			labels, known := all[name]
			if !known && !libraries[name] {
				t.Errorf("%s reads %s, which neither host tells", where, s.Name)
				continue
			}
			for _, m := range s.LabelMatchers {
				if known && m.Name != "__name__" && !slices.Contains(labels, m.Name) {
					t.Errorf("%s asks for label %s of %s, which has %v", where, m.Name, s.Name, labels)
				}
			}
		}
	}
	for _, v := range read[dashboard](t, "serin.json").Templating.List {
		if v.Type != "query" {
			continue
		}
		m := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v.Definition)
		if m == nil || !slices.Contains(all[m[1]], m[2]) {
			t.Errorf("variable %s: %s asks for a label that is not there", v.Name, v.Definition)
		}
	}
}

// What both hosts tell, they tell alike: a panel shows either.
func TestHostsTellAlike(t *testing.T) {
	d, c := daemons(t), controllers(t)
	both := 0
	for name, labels := range d {
		if other, ok := c[name]; ok {
			both++
			if !slices.Equal(labels, other) {
				t.Errorf("%s has labels %v on one machine and %v in a cluster", name, labels, other)
			}
		}
	}
	if both < 8 {
		t.Errorf("only %d metrics are told by both", both)
	}
}

func TestPanels(t *testing.T) {
	d := read[dashboard](t, "serin.json")
	ids := map[int]bool{}
	kinds := map[string]bool{"row": true, "stat": true, "timeseries": true, "state-timeline": true}
	for i, p := range d.Panels {
		g := p.GridPos
		switch {
		case ids[p.ID]:
			t.Errorf("panel %q has the number of another one", p.Title)
		case !kinds[p.Type]:
			t.Errorf("panel %q is a %s", p.Title, p.Type)
		case g.X+g.W > 24 || g.H < 1:
			t.Errorf("panel %q is off the grid: %+v", p.Title, g)
		case p.Type != "row" && (p.Description == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}"):
			t.Errorf("panel %q has no description, no query or a data source of its own", p.Title)
		}
		ids[p.ID] = true
		for _, o := range d.Panels[:i] {
			h := o.GridPos
			if g.X < h.X+h.W && h.X < g.X+g.W && g.Y < h.Y+h.H && h.Y < g.Y+g.H {
				t.Errorf("panels %q and %q lie on each other", p.Title, o.Title)
			}
		}
	}
}

// Every alert fires where it should, and only there: promtool runs the rules
// over the series of testdata/alerts_test.yaml.
func TestAlerts(t *testing.T) {
	promtool := prometheustest.Program(t, "promtool")
	if out, err := exec.Command(promtool, "check", "rules", "alerts.yaml").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(promtool, "test", "rules", "alerts_test.yaml")
	cmd.Dir = "testdata"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cases := read[struct {
		Tests []struct {
			Alerts []struct {
				Name string `json:"alertname"`
				Exp  []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}](t, "testdata/alerts_test.yaml")
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, x := range cases.Tests {
		for _, a := range x.Alerts {
			if len(a.Exp) > 0 {
				fires[a.Name] = true
			} else {
				silent[a.Name] = true
			}
		}
	}
	for _, g := range read[rules](t, "alerts.yaml").Groups {
		for _, r := range g.Rules {
			if !fires[r.Alert] || !silent[r.Alert] {
				t.Errorf("%s is not shown both to fire and to be silent", r.Alert)
			}
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s lacks a severity, a summary or a description", r.Alert)
			}
		}
	}
}

// hosts are what was recorded, and what each tells.
var hosts = map[string]struct {
	file  string
	tells func(*testing.T) map[string][]string
}{
	"OneMachine": {"testdata/one-machine.om.gz", daemons},
	"Cluster":    {"testdata/cluster.om.gz", clusters},
}

// Every query answers on what a real Serin told while it promoted one version
// and took another one back, in a real Prometheus; with figures, wherever the
// host tells the metrics that it reads.
func TestQueriesAnswer(t *testing.T) {
	for name, h := range hosts {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			text := filepath.Join(dir, "recorded.om")
			from, to := unpack(t, h.file, text)
			prometheustest.Fill(t, dir, text)
			addr := prometheustest.Start(t, dir, "scrape_configs: []\n", "--storage.tsdb.retention.time", "100y").URL
			defer http.DefaultClient.CloseIdleConnections()
			tells := h.tells(t)
			for where, q := range queries(t) {
				if strings.HasPrefix(where, "alert") {
					q = "(" + q + ") or vector(0)" // an alert that is silent says nothing
				}
				series := ask(t, addr, where, q, from, to)
				needed := true
				for _, s := range selectors(t, where, q) {
					n := strings.TrimSuffix(s.Name, "_bucket")
					needed = needed && (tells[n] != nil || libraries[n])
				}
				if series == 0 && needed && !slices.ContainsFunc(selectors(t, where, q), func(v *parser.VectorSelector) bool { return onlyInTrouble[v.Name] }) {
					t.Errorf("%s: no series from %s to %s\n%s", where, from.Format(time.TimeOnly), to.Format(time.TimeOnly), q)
				}
			}
		})
	}
}

// unpack writes the recorded text and gives the time that it spans.
func unpack(t *testing.T, from, to string) (first, last time.Time) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m) (\d+)\.\d+$`).FindAllSubmatch(b, -1) {
		var s int64
		fmt.Sscan(string(m[1]), &s)
		at := time.Unix(s, 0)
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	return first, last
}

func ask(t *testing.T, addr, where, query string, from, to time.Time) int {
	t.Helper()
	v := url.Values{"query": {query}, "start": {fmt.Sprint(from.Unix())}, "end": {fmt.Sprint(to.Unix())}, "step": {"2"}}
	resp, err := http.Get(addr + "/api/v1/query_range?" + v.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if answer.Status != "success" {
		t.Errorf("%s: %s\n%s", where, answer.Error, query)
	}
	return len(answer.Data.Result)
}

// parse reads a query with Prometheus' own parser.
func parse(query string) (parser.Expr, error) {
	return parser.NewParser(parser.Options{}).ParseExpr(query)
}
