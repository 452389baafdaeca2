package prometheus

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/metric"
)

// fake answers like a Prometheus that has what it is told.
type fake struct {
	*httptest.Server
	mu      sync.Mutex
	queries []string
	headers []http.Header
	handler http.HandlerFunc // nil: series
	series  func(query string, now time.Time) string
}

func newFake(t testing.TB) *fake {
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	q := r.Form.Get("query")
	f.mu.Lock()
	f.queries = append(f.queries, q)
	f.headers = append(f.headers, r.Header.Clone())
	h, series := f.handler, f.series
	f.mu.Unlock()
	if h != nil {
		h(w, r)
		return
	}
	fmt.Fprintf(w, `{"status":"success","data":{"resultType":"matrix","result":[%s]}}`, series(q, time.Now()))
}

func (f *fake) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.queries...)
}

// sample is one series with two scrapes.
func samples(name, pod, labels string, v float64, now time.Time) string {
	at := float64(now.UnixMilli())/1000 - 1
	return fmt.Sprintf(`{"metric":{"__name__":%q,"namespace":"shop","pod":%q,"job":"j"%s},"values":[[%.3f,"%v"],[%.3f,"%v"]]}`, name, pod, labels, at-5, v, at, v)
}

func istioSample(pod string, v float64, now time.Time) string {
	return samples("istio_requests_total", pod, `,"reporter":"destination","response_code":"200"`, v, now)
}

// TestWhatIsNoAnswer: each is a fault of its own, gives no figures, and repeats
// nothing secret.
func TestWhatIsNoAnswer(t *testing.T) {
	const secret = "tiger-and-lily"
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	stop := make(chan struct{})
	defer close(stop)
	say := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); io.WriteString(w, text) }
	}
	matrix := func(result string) http.HandlerFunc {
		return say(200, `{"status":"success","data":{"resultType":"matrix","result":`+result+`}}`)
	}
	for name, c := range map[string]struct {
		h     http.HandlerFunc
		fault Fault
		says  string
	}{
		"HTML":          {say(200, "<html>"+secret+"</html>"), NotPrometheus, ""},
		"EmptyBody":     {say(200, ""), NotPrometheus, ""},
		"Null":          {say(200, "null"), NotPrometheus, ""},
		"NoData":        {say(200, `{"status":"success"}`), NotPrometheus, ""},
		"HalfAnAnswer":  {say(200, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"`), NotPrometheus, ""},
		"AScalar":       {say(200, `{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}`), NotPrometheus, "a scalar instead of samples"},
		"AString":       {say(200, `{"status":"success","data":{"resultType":"string","result":[1,"x"]}}`), NotPrometheus, ""},
		"OddNumber":     {matrix(`[{"metric":{},"values":[[1,"` + secret + `"]]}]`), NotPrometheus, ""},
		"Empty":         {matrix(`[]`), NoSeries, ""},
		"OtherPods":     {matrix(`[{"metric":{"__name__":"up","namespace":"shop","pod":"zzz"},"values":[[1,"1"]]}]`), NoSeries, ""},
		"NoSamples":     {matrix(`[{"metric":{"__name__":"up","namespace":"shop","pod":"a"},"values":[]},{"metric":{}},null]`), NoSeries, ""},
		"Warnings":      {say(200, `{"status":"success","warnings":["store x is down `+secret+`"],"data":{"resultType":"matrix","result":[]}}`), Partial, "store x is down [hidden]"},
		"APIError":      {say(400, `{"status":"error","errorType":"bad_data","error":"parse error near `+secret+strings.Repeat("y", 500)+`"}`), BadQuery, "parse error near [hidden]"},
		"TooManyPoints": {say(422, `{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory"}`), QueryFailed, "too many samples"},
		"TimedOut":      {say(503, `{"status":"error","errorType":"timeout","error":"query timed out"}`), Slow, ""},
		"Unavailable":   {say(503, secret), ServerFailed, "status 503"},
		"Gateway":       {say(502, "<h1>"+secret), ServerFailed, "status 502"},
		"Unauthorized":  {say(401, secret), NotSignedIn, "status 401"},
		"Forbidden":     {say(403, secret), NotSignedIn, "status 403"},
		"NotFound":      {say(404, secret), NotPrometheus, "status 404"},
		"GetOnly":       {say(405, secret), NotPrometheus, ""},
		"Redirect":      {http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP, Redirected, "status 302"},
		"Throttled":     {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "7"); w.WriteHeader(429) }, Throttled, "status 429"},
		"Large":         {say(200, strings.Repeat(" ", 3000)), TooLarge, ""},
		"LargeChunks": {func(w http.ResponseWriter, _ *http.Request) {
			for range 10 {
				io.WriteString(w, strings.Repeat(" ", 1000))
				w.(http.Flusher).Flush()
			}
		}, TooLarge, ""},
		"Hangs": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-stop:
			}
		}, Slow, ""},
		"Cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"status"`)
		}, Unreachable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.handler = c.h
			timeout := 20 * time.Second
			if name == "Hangs" {
				timeout = 50 * time.Millisecond
			}
			r := reader(t, Config{Address: f.URL, MaxAnswer: 2000, Timeout: timeout, Bearer: secret})
			p := &pods{}
			p.add(v1_, "a")
			got, err := r.For("shop", p).Look(context.Background(), v1_, "")
			var e *Error
			if !errors.As(err, &e) || e.Fault != c.fault || !strings.Contains(e.Detail, c.says) {
				t.Errorf("got %v, want %s with %q", err, c.fault, c.says)
			}
			if len(got.Stable) != 0 {
				t.Errorf("figures: %+v", got)
			}
			if name == "Throttled" && e.After != 7*time.Second {
				t.Errorf("to be asked again after %v", e.After)
			}
			if strings.Contains(fmt.Sprint(err), secret) || len(fmt.Sprint(err)) > 400 {
				t.Errorf("it says too much: %v", err)
			}
		})
	}
}

// TestOneQuestionForMany: fifty rollouts are one question of each kind, more
// are several, and what is too much is asked in halves.
func TestOneQuestionForMany(t *testing.T) {
	f := newFake(t)
	named := regexp.MustCompile(`pod-[0-9]+`)
	f.series = func(q string, now time.Time) string {
		var out []string
		if strings.Contains(q, "istio_requests_total") {
			for _, pod := range named.FindAllString(q, -1) {
				out = append(out, istioSample(pod, 7, now))
			}
		}
		return strings.Join(out, ",")
	}
	var clock atomic.Int64
	start := time.Now()
	now := func() time.Time { return start.Add(time.Duration(clock.Load())) }
	look := func(r *Reader, sources []*Source) int {
		t.Helper()
		before := r.Asked()
		var wg sync.WaitGroup
		for _, s := range sources {
			wg.Go(func() {
				got, err := s.Look(context.Background(), v1_, v2_)
				if err != nil && !errors.Is(err, engine.ErrUnchanged) {
					t.Error(err)
				} else if err == nil && (got.Stable[0].Requests != 7 || got.Canary[0].Requests != 7) {
					t.Errorf("%+v", got)
				}
			})
		}
		wg.Wait()
		return r.Asked() - before
	}
	sources := func(r *Reader, n int) (out []*Source) {
		for i := range n {
			p := &pods{}
			p.add(v1_, fmt.Sprint("pod-", 2*i))
			p.add(v2_, fmt.Sprint("pod-", 2*i+1))
			out = append(out, r.For("shop", p))
		}
		return out
	}
	r := reader(t, Config{Address: f.URL, Every: 5 * time.Second, Now: now})
	many := sources(r, 120)
	for _, s := range many { // each is new when it looks first
		look(r, []*Source{s})
	}
	clock.Add(int64(6 * time.Second))
	// requests, latency and usage, for 50, 50 and 20
	if n := look(r, many); n != 9 {
		t.Errorf("%d questions for 120 rollouts, want 9", n)
	}
	for range 3 {
		if n := look(r, many); n != 0 {
			t.Errorf("%d questions although nothing is due", n)
		}
	}
	// Views that nobody looks at any more are not asked for.
	clock.Add(int64(10 * time.Second))
	look(r, many[:10])
	clock.Add(int64(15 * time.Second))
	if n := look(r, many[:10]); n != 3 {
		t.Errorf("%d questions for 10 rollouts", n)
	}

	// An answer for 16 at once is too large; for 4 it is not.
	one := len(istioSample("pod-10", 7, start)) * 2
	r = reader(t, Config{Address: f.URL, Every: 5 * time.Second, Now: now, MaxAnswer: int64(one*5 + 100)})
	many = sources(r, 16)
	for _, s := range many {
		look(r, []*Source{s})
	}
	clock.Add(int64(6 * time.Second))
	if n := look(r, many); n < 7+2 || n > 31+2 {
		t.Errorf("%d questions", n)
	}
	clock.Add(int64(6 * time.Second))
	if n := look(r, many); n > 24 {
		t.Errorf("%d questions the next time: it should have learned", n)
	}
}

// TestCountersOnlyWhenNewer: what was shown once is not shown again, and two
// servers behind one address never make a counter fall.
func TestCountersOnlyWhenNewer(t *testing.T) {
	f := newFake(t)
	base := time.Now()
	var value, behind atomic.Int64
	f.series = func(q string, _ time.Time) string {
		if !strings.Contains(q, "istio_requests_total") {
			return ""
		}
		at := base.Add(-time.Duration(behind.Load()) * time.Second)
		return istioSample("a", float64(value.Load()-behind.Load()), at)
	}
	p := &pods{}
	p.add(v1_, "a")
	var clock atomic.Int64
	r := reader(t, Config{Address: f.URL, Every: time.Second, Now: func() time.Time { return base.Add(time.Duration(clock.Load())) }})
	s := r.For("shop", p)
	value.Store(100)
	if got, err := s.Look(context.Background(), v1_, ""); err != nil || got.Stable[0].Requests != 100 {
		t.Fatal(got, err)
	}
	for range 3 {
		behind.Store(3) // the other one lags
		clock.Add(int64(3 * time.Second))
		if _, err := s.Look(context.Background(), v1_, ""); !errors.Is(err, engine.ErrUnchanged) {
			t.Errorf("older samples: %v", err)
		}
	}
	clock.Add(int64(time.Minute))
	var e *Error
	if _, err := s.Look(context.Background(), v1_, ""); !errors.As(err, &e) || e.Fault != Stale {
		t.Errorf("nothing newer for a minute: %v", err)
	}
	behind.Store(0)
	base2 := base.Add(time.Minute)
	f.mu.Lock()
	f.series = func(q string, _ time.Time) string {
		if !strings.Contains(q, "istio_requests_total") {
			return ""
		}
		return istioSample("a", 120, base2)
	}
	f.mu.Unlock()
	clock.Add(int64(3 * time.Second))
	if got, err := s.Look(context.Background(), v1_, ""); err != nil || got.Stable[0].Requests != 120 {
		t.Error(got, err)
	}
}

// TestCustomAnswers: every kind of answer is its own.
func TestCustomAnswers(t *testing.T) {
	answers := map[string]struct {
		body string
		want analysis.Reading
	}{
		"number":    {`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"98.5"]}]}}`, analysis.Reading{Answer: analysis.Number, Value: 98.5}},
		"scalar":    {`{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}`, analysis.Reading{Answer: analysis.Number, Value: 3}},
		"zero":      {`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"-0"]}]}}`, analysis.Reading{Answer: analysis.Number, Value: math.Copysign(0, -1)}},
		"empty":     {`{"status":"success","data":{"resultType":"vector","result":[]}}`, analysis.Reading{Answer: analysis.Empty}},
		"nan":       {`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}`, analysis.Reading{Answer: analysis.NotANumber, Detail: "NaN"}},
		"inf":       {`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"+Inf"]}]}}`, analysis.Reading{Answer: analysis.NotANumber, Detail: "+Inf"}},
		"several":   {`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[1,"1"]},{"metric":{"a":"2"},"value":[1,"1"]}]}}`, analysis.Reading{Answer: analysis.Several, Detail: "2 series where one is meant"}},
		"matrix":    {`{"status":"success","data":{"resultType":"matrix","result":[]}}`, analysis.Reading{Answer: analysis.SourceFailed, Detail: "a matrix where one number is meant"}},
		"string":    {`{"status":"success","data":{"resultType":"string","result":[1,"x"]}}`, analysis.Reading{Answer: analysis.SourceFailed, Detail: "a string where one number is meant"}},
		"histogram": {`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[]}]}]}}`, analysis.Reading{Answer: analysis.SourceFailed, Detail: "a histogram where one number is meant"}},
		"warnings":  {`{"status":"success","warnings":["w"],"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}`, analysis.Reading{Answer: analysis.SourceFailed, Detail: "Prometheus answered with warnings, so that the answer may not be whole: w"}},
		"infos":     {`{"status":"success","infos":["i"],"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}`, analysis.Reading{Answer: analysis.Number, Value: 1}},
		"nothing":   {`{"status":"success","data":{"resultType":"vector","result":[{"metric":{}}]}}`, analysis.Reading{Answer: analysis.SourceFailed, Detail: "Prometheus answered with something that is no answer of Prometheus"}},
		"nonsense":  {`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1]}]}}`, analysis.Reading{Answer: analysis.SourceFailed, Detail: "Prometheus answered with something that is no answer of Prometheus"}},
	}
	f := newFake(t)
	f.handler = func(w http.ResponseWriter, r *http.Request) {
		q := r.Form.Get("query")
		for name, a := range answers {
			if strings.HasPrefix(q, "a_"+name+"{") {
				io.WriteString(w, a.body)
			}
		}
	}
	r := reader(t, Config{Address: f.URL})
	for name, a := range answers {
		tpl, err := ParseTemplate("a_" + name + `{version="{{version}}"}`)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.number(tpl, Values{"v2", "shop"}); got != a.want {
			t.Errorf("%s: %+v, want %+v", name, got, a.want)
		}
		r.mu.Lock()
		r.rest = time.Time{}
		r.mu.Unlock()
	}
	for _, q := range f.asked() {
		if !strings.Contains(q, `namespace="shop"`) || !strings.Contains(q, `version="v2"`) {
			t.Errorf("asked %s", q)
		}
	}
}

// readings waits for the answers to the queries of a document.
func readings(t *testing.T, c metric.Customs) []analysis.Custom {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		if got := c.Readings(context.Background(), v1_, v2_); got != nil {
			return got
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("no answer")
		}
	}
}

// TestRealQueries: the document's own metrics from a real Prometheus; each
// answer once, and none at rest.
func TestRealQueries(t *testing.T) {
	t.Parallel()
	one, two := newExporter(t), newExporter(t)
	one.set("good_total 99\n", false)
	two.set("good_total 80\n", false)
	s := run(t, job("pods", map[string]*exporter{"a": one, "b": two}, map[string]string{"a": "v1", "b": "v2"})+
		fmt.Sprintf("- job_name: x\n  static_configs: [{targets: [%q], labels: {namespace: other, version: v2}}]\n", one.target()))
	one.wait(t, 3)
	two.wait(t, 2)
	query := func(name, q string) Query {
		tpl, err := ParseTemplate(q)
		if err != nil {
			t.Fatal(err)
		}
		return Query{name, tpl}
	}
	r := reader(t, Config{Address: s.URL, Every: 10 * time.Millisecond})
	c := r.Custom("shop", []Query{
		query("good", `sum(good_total{version="{{version}}"})`),
		query("all", `sum(good_total{namespace=~".+"})`), // its namespace alone
		query("nothing", `sum(bad_total{version="{{version}}"})`),
		query("many", `good_total`),
		query("nan", `sum(good_total{version="{{version}}"}) * 0 / 0`),
		query("failing", `good_total + on(job) good_total`),
	})
	if c.Readings(context.Background(), v1_, "") != nil || r.Asked() != 0 {
		t.Error("at rest nothing is asked")
	}
	var got map[string]analysis.Custom
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		got = map[string]analysis.Custom{}
		for _, x := range readings(t, c) {
			got[x.Name] = x
		}
		if got["good"].Canary.Answer == analysis.Number && got["good"].Stable.Answer == analysis.Number && got["all"].Canary.Value == 179 {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("got %+v", got)
		}
	}
	if g := got["good"]; g.Canary.Value != 80 || g.Stable.Value != 99 {
		t.Errorf("good: %+v", g)
	}
	if g := got["all"]; g.Stable.Answer != analysis.NoAnswer {
		t.Errorf("one number for both: %+v", g)
	}
	tried := fmt.Sprint(c.Try(context.Background(), v1_))
	for _, want := range []string{"metric nothing gives no series for v1", "metric many gives several numbers (2 series where one is meant)", "metric nan gives no number (NaN)", "metric failing gives no answer"} {
		if !strings.Contains(tried, want) {
			t.Errorf("tried: %s; want %q", tried, want)
		}
	}
	if strings.Contains(tried, "metric good ") {
		t.Errorf("tried: %s", tried)
	}
	for name, want := range map[string]analysis.Answer{"nothing": analysis.Empty, "many": analysis.Several, "nan": analysis.NotANumber, "failing": analysis.SourceFailed} {
		if got[name].Canary.Answer != want {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
}

func TestSignsIn(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte("first-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"Bearer":     {Config{Bearer: "abcdef"}, "Bearer abcdef"},
		"BearerFile": {Config{BearerFile: file}, "Bearer first-token"},
		"Basic":      {Config{User: "u", Password: "pw"}, "Basic dTpwdw=="},
		"BasicFile":  {Config{User: "u", PasswordFile: file}, "Basic dTpmaXJzdC10b2tlbg=="},
		"Nobody":     {Config{}, ""},
	} {
		f := newFake(t)
		f.series = func(string, time.Time) string { return "" }
		c.config.Address, c.config.Tenant = f.URL, "team-a"
		p := &pods{}
		p.add(v1_, "a")
		_, _ = reader(t, c.config).For("shop", p).Look(context.Background(), v1_, "")
		f.mu.Lock()
		if h := f.headers[0]; h.Get("Authorization") != c.want || h.Get("X-Scope-OrgID") != "team-a" {
			t.Errorf("%s: %v", name, h)
		}
		f.mu.Unlock()
		if s := fmt.Sprintf("%v %+v %#v", c.config, c.config, c.config); strings.Contains(s, "abcdef") || strings.Contains(s, "pw") && name == "Basic" {
			t.Errorf("the configuration shows its secret: %s", s)
		}
	}
}

func TestTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"status":"success","data":{"resultType":"matrix","result":[]}}`)
	}))
	defer srv.Close()
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &pods{}
	p.add(v1_, "a")
	for name, c := range map[string]struct {
		config Config
		want   Fault
	}{
		"Trusted":   {Config{CAFile: ca}, NoSeries},
		"Unknown":   {Config{}, NotTrusted},
		"OtherName": {Config{CAFile: ca, ServerName: "not.there"}, NotTrusted},
	} {
		c.config.Address = srv.URL
		_, err := reader(t, c.config).For("shop", p).Look(context.Background(), v1_, "")
		var e *Error
		if !errors.As(err, &e) || e.Fault != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	c := Config{Address: "prometheus:9090", Bearer: "x", BearerFile: "y", User: "u", Password: "p", PasswordFile: "q", CertFile: "c", Tenant: "a\nb", PodLabel: "a-b", NamespaceLabel: "1", Batch: -1}
	err := c.Check()
	for _, want := range []string{"address: an address is meant", "bearer, user", "bearerFile", "passwordFile", "certFile, keyFile", "tenant", "podLabel", "namespaceLabel", "batch"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said: %v", want, err)
		}
	}
	if _, err := New(Config{Address: "http://u:geheim@x"}); err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("a user in the address: %v", err)
	}
	if _, err := New(Config{Address: "http://x", CAFile: "nowhere.pem"}); err == nil || !strings.Contains(err.Error(), "caFile") {
		t.Errorf("no such file: %v", err)
	}
}

// TestAThroughPartialStores: a real Prometheus behind something that adds
// warnings, as servers over several stores do when one is down: there are
// figures in the answer, and they are not taken.
func TestPartialAnswersOfARealOne(t *testing.T) {
	t.Parallel()
	e := newExporter(t)
	e.count("200", 5)
	s := run(t, job("pods", map[string]*exporter{"a": e}, nil))
	e.wait(t, 2)
	to, _ := url.Parse(s.URL)
	var warn atomic.Bool
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Header.Del("Accept-Encoding") }, ModifyResponse: func(r *http.Response) error {
		if !warn.Load() {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		text := strings.Replace(string(body), `{"status":"success",`, `{"status":"success","warnings":["one store did not answer"],`, 1)
		r.Body = io.NopCloser(strings.NewReader(text))
		r.Header.Del("Content-Length")
		r.ContentLength = -1
		return err
	}}
	front := httptest.NewServer(proxy)
	defer front.Close()
	p := &pods{}
	p.add(v1_, "a")
	src := reader(t, Config{Address: front.URL}).For("shop", p)
	until(t, src, "figures", func(g engine.Sampled, err error) bool { return err == nil && g.Stable[0].Requests == 5 })
	warn.Store(true)
	until(t, src, "partial", func(_ engine.Sampled, err error) bool {
		var e *Error
		return errors.As(err, &e) && e.Fault == Partial && e.Detail == "one store did not answer"
	})
	warn.Store(false)
	e.count("200", 1)
	until(t, src, "figures again", func(g engine.Sampled, err error) bool { return err == nil && g.Stable[0].Requests == 6 })
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// roundTrip answers without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// FuzzAnswer: whatever the server says, what comes of it is figures that can be,
// or an error.
func FuzzAnswer(f *testing.F) {
	now := time.Now()
	f.Add(200, []byte(`{"status":"success","data":{"resultType":"matrix","result":[`+istioSample("a", 7, now)+`]}}`))
	f.Add(200, []byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}`))
	f.Add(200, []byte(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"istio_request_duration_milliseconds","pod":"a","namespace":"shop","reporter":"destination"},"histograms":[[1,{"count":"5","sum":"1","buckets":[[0,"1","2","5"]]}]]}]}}`))
	f.Add(422, []byte(`{"status":"error","errorType":"execution","error":"x"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 100 || status > 599 {
			return
		}
		r, err := New(Config{Address: "http://x"})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		r.door.next = roundTrip(func(q *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(body))), Request: q, ContentLength: -1}, nil
		})
		p := &pods{}
		p.add(v1_, "a")
		got, err := r.For("shop", p).Look(context.Background(), v1_, "")
		if err == nil {
			for _, x := range got.Stable {
				for _, n := range append([]float64{x.Requests, x.Errors, x.CPUSeconds, x.MemoryBytes}, x.Latency.Count...) {
					if !(n >= 0) || math.IsInf(n, 0) {
						t.Fatalf("%+v", x)
					}
				}
			}
		}
		tpl, _ := ParseTemplate("a")
		if n := r.number(tpl, Values{"v", "n"}); n.Answer == analysis.Number && (math.IsNaN(n.Value) || math.IsInf(n.Value, 0)) {
			t.Fatalf("%+v", n)
		}
	})
}

// BenchmarkLook is one look at 20 pods through one answer for 50 rollouts of 20
// pods (three status codes, 20 buckets): 63,000 series.
func BenchmarkLook(b *testing.B) {
	f := newFake(b)
	named := regexp.MustCompile(`pod-[0-9]+`)
	f.series = func(q string, now time.Time) string {
		var out []string
		for _, pod := range named.FindAllString(q, -1) {
			for _, code := range []string{"200", "404", "503"} {
				l := `,"reporter":"destination","response_code":"` + code + `","destination_workload":"my-app","source_workload":"web","response_flags":"-"`
				switch {
				case strings.Contains(q, "duration_milliseconds_bucket"):
					for i := range 20 {
						out = append(out, samples("istio_request_duration_milliseconds_bucket", pod, l+fmt.Sprintf(`,"le":"%d"`, i+1), 100, now))
					}
				case strings.Contains(q, "istio_requests_total"):
					out = append(out, samples("istio_requests_total", pod, l, 100, now))
				}
			}
		}
		return strings.Join(out, ",")
	}
	var clock atomic.Int64
	start := time.Now()
	r := reader(b, Config{Address: f.URL, Every: 5 * time.Second, Timeout: time.Minute, Now: func() time.Time { return start.Add(time.Duration(clock.Load())) }})
	var sources []*Source
	for i := range 50 {
		p := &pods{}
		for k := range 20 {
			p.add(v1_, fmt.Sprint("pod-", 20*i+k))
		}
		sources = append(sources, r.For("shop", p))
	}
	for _, s := range sources {
		_, _ = s.Look(context.Background(), v1_, "")
	}
	b.ReportAllocs()
	for b.Loop() {
		clock.Add(int64(6 * time.Second))
		for _, s := range sources {
			if _, err := s.Look(context.Background(), v1_, ""); err != nil && !errors.Is(err, engine.ErrUnchanged) {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(sources)), "µs/look")
}

// TestUsageMayBeSlow: what CPU and memory cost to ask takes nothing from the
// requests, which are what is judged.
func TestUsageMayBeSlow(t *testing.T) {
	f := newFake(t)
	f.handler = func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Form.Get("query"), "container_cpu") {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		out := ""
		if q := r.Form.Get("query"); strings.Contains(q, "istio_requests_total") {
			out = istioSample("a", 7, time.Now()) + "," + istioSample("b", 7, time.Now())
		}
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"matrix","result":[%s]}}`, out)
	}
	var clock atomic.Int64
	start := time.Now()
	r := reader(t, Config{Address: f.URL, Every: time.Second, Now: func() time.Time { return start.Add(time.Duration(clock.Load())) }})
	p := &pods{}
	p.add(v1_, "a")
	p.add(v2_, "b")
	s := r.For("shop", p)
	for i := range 5 {
		if _, err := s.Look(context.Background(), v1_, v2_); err != nil && !errors.Is(err, engine.ErrUnchanged) {
			t.Fatalf("look %d: %v", i, err)
		}
		clock.Add(int64(3 * time.Second))
	}
}

// A mistake of ours over an answer is an error of that look, and of those that
// asked with it; its stack is in the log, once, and the next answer counts.
func TestAPanicIsAnErrorOfOneLook(t *testing.T) {
	f := newFake(t)
	var figures atomic.Bool
	f.series = func(query string, now time.Time) string {
		if !strings.Contains(query, "istio_requests_total") {
			return ""
		}
		return istioSample("a", 7, now)
	}
	var logged lockedBuffer
	r := reader(t, Config{Address: f.URL, Every: time.Millisecond, Log: slog.New(slog.NewTextHandler(&logged, nil))})
	next := r.door.next
	r.door.next = roundTrip(func(q *http.Request) (*http.Response, error) {
		res, err := next.RoundTrip(q)
		if err == nil && !figures.Load() {
			res.Body = panics{res.Body}
		}
		return res, err
	})
	p := &pods{}
	p.add(v1_, "a")
	src, other := r.For("shop", p), r.For("shop", p)
	isMistake := func(_ engine.Sampled, err error) bool {
		var e *Error
		return errors.As(err, &e) && e.Fault == Mistake
	}
	until(t, src, "the mistake is an error", isMistake)
	until(t, other, "the next one too", isMistake)
	tpl, err := ParseTemplate("a")
	if err != nil {
		t.Fatal(err)
	}
	c := r.Custom("shop", []Query{{Name: "m", Template: tpl}})
	got := readings(t, c)
	if got[0].Canary.Answer != analysis.SourceFailed || !strings.Contains(got[0].Canary.Detail, "read wrongly by this version of Serin") {
		t.Errorf("%+v", got)
	}
	if found := c.Try(t.Context(), v1_); len(found) != 1 {
		t.Errorf("%+v", found)
	}
	if n := strings.Count(logged.String(), "out of range"); n != 1 || !strings.Contains(logged.String(), "answers_test.go") {
		t.Errorf("said %d times, want once, with the stack:\n%s", n, logged.String())
	}
	figures.Store(true)
	until(t, src, "figures", func(g engine.Sampled, err error) bool { return err == nil && g.Stable[0].Requests == 7 })
}

// panics is an answer over which whoever reads it makes a mistake.
type panics struct{ io.ReadCloser }

func (panics) Read(p []byte) (int, error) { return len(p[len(p)+1:]), nil }

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
