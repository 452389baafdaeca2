package gateway

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Bounds of a table: large enough for any document, small enough that a mistake
// is told and not executed.
const (
	maxServices     = 10000
	maxRules        = 1000
	maxDestinations = 100
	maxValue        = 4096 // bytes of a match's value
)

// TableError lists what is wrong with a table, one "path: problem" each.
type TableError struct{ Problems []string }

func (e *TableError) Error() string {
	return "gateway: table refused: " + strings.Join(e.Problems, "; ")
}

// Validate gives the problems for which Swap would refuse t as a *TableError,
// or nil.
func (t Table) Validate() error {
	c := checker{hosts: map[string]string{}, names: map[string]bool{}}
	if len(t.Services) > maxServices {
		c.add("services", "%d are too many, at most %d", len(t.Services), maxServices)
	}
	for i, s := range t.Services {
		c.service(fmt.Sprintf("services[%d]", i), s)
	}
	if len(c.problems) > 0 {
		return &TableError{c.problems}
	}
	return nil
}

// checker collects problems over a whole table.
type checker struct {
	problems []string
	hosts    map[string]string // host -> path of the service that has it
	names    map[string]bool
	fallback string // path of the default service
}

func (c *checker) add(path, format string, args ...any) {
	c.problems = append(c.problems, path+": "+fmt.Sprintf(format, args...))
}

func (c *checker) service(path string, s Service) {
	if s.Name == "" {
		c.add(path+".name", "is empty; give every service a name")
	}
	if c.names[s.Name] {
		c.add(path+".name", "%q is there twice; names are unique", s.Name)
	}
	c.names[s.Name] = true
	if s.Default {
		if c.fallback != "" {
			c.add(path+".default", "%s is the default already; only one may be", c.fallback)
		}
		c.fallback = path
	}
	if len(s.Hosts) == 0 && !s.Default {
		c.add(path+".hosts", "is empty; nothing could reach the service: name a host or make it the default")
	}
	for i, h := range s.Hosts {
		c.host(fmt.Sprintf("%s.hosts[%d]", path, i), path, h)
	}
	versions := c.versions(path, s.Versions)
	for i, v := range s.Versions {
		if v.MaxInFlight < 0 {
			c.add(fmt.Sprintf("%s.versions[%d].maxInFlight", path, i), "%d is negative", v.MaxInFlight)
		}
		if v.MaxWaiting < 0 {
			c.add(fmt.Sprintf("%s.versions[%d].maxWaiting", path, i), "%d is negative", v.MaxWaiting)
		}
		if v.Overflow != "" && (!versions[v.Overflow] || v.Overflow == v.Name) {
			c.add(fmt.Sprintf("%s.versions[%d].overflow", path, i), "%q is not another version of the service", v.Overflow)
		}
	}
	if len(s.Rules) > maxRules {
		c.add(path+".rules", "%d are too many, at most %d", len(s.Rules), maxRules)
	}
	rules := map[string]bool{}
	for i, r := range s.Rules {
		p := fmt.Sprintf("%s.rules[%d]", path, i)
		if r.Name != "" && rules[r.Name] {
			c.add(p+".name", "%q is there twice; names are unique", r.Name)
		}
		rules[r.Name] = true
		c.rule(p, r, versions)
	}
}

func (c *checker) host(path, service, h string) {
	if h == "" || strings.ContainsAny(h, "/*? ") || !httpguts.ValidHostHeader(h) {
		c.add(path, "%q is not a host name; wildcards are not supported", h)
		return
	}
	k := hostKey(h)
	if other, ok := c.hosts[k]; ok && other != service {
		c.add(path, "%q belongs to %s already", h, other)
	}
	c.hosts[k] = service
}

func (c *checker) versions(path string, vs []Version) map[string]bool {
	known := map[string]bool{}
	for i, v := range vs {
		p := fmt.Sprintf("%s.versions[%d]", path, i)
		switch {
		case v.Name == "":
			c.add(p+".name", "is empty")
		case known[v.Name]:
			c.add(p+".name", "%q is there twice", v.Name)
		case !httpguts.ValidHeaderFieldValue(v.Name):
			c.add(p+".name", "%q holds a character that no header may carry", v.Name)
		}
		known[v.Name] = true
		replicas, addresses := map[string]bool{}, map[string]bool{}
		for j, e := range v.Endpoints {
			q := fmt.Sprintf("%s.endpoints[%d]", p, j)
			if e.Replica == "" || replicas[e.Replica] {
				c.add(q+".replica", "%q is empty or there twice; every replica of a version has its own name", e.Replica)
			}
			if addresses[e.Address] {
				c.add(q+".address", "%q is there twice", e.Address)
			}
			replicas[e.Replica], addresses[e.Address] = true, true
			host, port, err := net.SplitHostPort(e.Address)
			n, perr := strconv.Atoi(port)
			if err != nil || host == "" || perr != nil || n < 1 || n > 65535 {
				c.add(q+".address", "%q is not host:port", e.Address)
			}
		}
	}
	return known
}

func (c *checker) rule(path string, r Rule, versions map[string]bool) {
	if len(r.Split) == 0 || len(r.Split) > maxDestinations {
		c.add(path+".split", "has %d destinations, want 1 to %d", len(r.Split), maxDestinations)
	}
	sum, seen := 0, map[string]bool{}
	for i, d := range r.Split {
		p := fmt.Sprintf("%s.split[%d]", path, i)
		if !versions[d.Version] {
			c.add(p+".version", "%q is not among the service's versions", d.Version)
		}
		if seen[d.Version] {
			c.add(p+".version", "%q is there twice", d.Version)
		}
		seen[d.Version] = true
		if d.Weight < 0 || d.Weight > FullWeight {
			c.add(p+".weight", "%d is not within 0 and %d", d.Weight, FullWeight)
		}
		sum += d.Weight
	}
	if len(r.Split) > 0 && sum != FullWeight {
		c.add(path+".split", "the weights sum up to %d, want %d", sum, FullWeight)
	}
	c.extras(path, r, versions)
	for i, m := range r.Match {
		c.match(fmt.Sprintf("%s.match[%d]", path, i), m)
	}
}

// extras checks what a rule does beyond splitting.
func (c *checker) extras(path string, r Rule, versions map[string]bool) {
	if s := r.Sticky; s != nil {
		set := 0
		for what, k := range map[string]string{"header": s.Header, "cookie": s.Cookie, "ownCookie": s.OwnCookie} {
			if k == "" {
				continue
			}
			set++
			if !httpguts.ValidHeaderFieldName(k) {
				c.add(path+".sticky."+what, "%q is not a name", k)
			}
		}
		if set != 1 {
			c.add(path+".sticky", "has %d of header, cookie and ownCookie, want exactly one", set)
		}
		if s.Path != "" && (s.Path[0] != '/' || strings.ContainsAny(s.Path, ";, \"") || !httpguts.ValidHeaderFieldValue(s.Path)) {
			c.add(path+".sticky.path", "%q is not a cookie's path", s.Path)
		}
	}
	for i, m := range r.Mirrors {
		p := fmt.Sprintf("%s.mirrors[%d]", path, i)
		if !versions[m.Version] {
			c.add(p+".version", "%q is not among the service's versions", m.Version)
		}
		if m.Share < 0 || m.Share > FullWeight {
			c.add(p+".share", "%d is not within 0 and %d", m.Share, FullWeight)
		}
	}
	c.rewrite(path+".rewrite", r.Rewrite)
	c.headers(path+".request", r.Request)
	c.headers(path+".response", r.Response)
	if r.Timeout < 0 || r.Retries.PerTry < 0 {
		c.add(path+".timeout", "a time is negative")
	}
	if r.Retries.Attempts < 0 || r.Retries.Attempts > 10 {
		c.add(path+".retries.attempts", "%d is not within 0 and 10", r.Retries.Attempts)
	}
	if r.Shield != "" && !versions[r.Shield] {
		c.add(path+".shield", "%q is not among the service's versions", r.Shield)
	}
}

func (c *checker) match(path string, m Match) {
	if m.Method != "" && !httpguts.ValidHeaderFieldName(m.Method) { // both are tokens
		c.add(path+".method", "%q is not a method", m.Method)
	}
	if m.Path != nil {
		c.text(path+".path", *m.Path)
	}
	if m.Scheme != "" && m.Scheme != "http" && m.Scheme != "https" {
		c.add(path+".scheme", "%q is neither http nor https", m.Scheme)
	}
	for what, all := range map[string][]NamedMatch{"headers": m.Headers, "without": m.Without} {
		for i, h := range all {
			p := fmt.Sprintf("%s.%s[%d]", path, what, i)
			if !httpguts.ValidHeaderFieldName(h.Name) || strings.Contains(h.Name, "_") {
				c.add(p+".name", "%q is not a header that can arrive", h.Name)
			}
			c.text(p+".value", h.Value)
		}
	}
	for i, q := range m.Query {
		p := fmt.Sprintf("%s.query[%d]", path, i)
		if q.Name == "" {
			c.add(p+".name", "is empty")
		}
		c.text(p+".value", q.Value)
	}
	for i, k := range m.Cookies {
		p := fmt.Sprintf("%s.cookies[%d]", path, i)
		if !httpguts.ValidHeaderFieldName(k.Name) { // both are tokens
			c.add(p+".name", "%q is not a cookie's name", k.Name)
		}
		c.text(p+".value", k.Value)
	}
}

func (c *checker) text(path string, m StringMatch) {
	if len(m.Value) > maxValue {
		c.add(path, "has %d bytes, at most %d", len(m.Value), maxValue)
	}
	switch m.Kind {
	case Exact, Prefix, Present:
	case Regex:
		if _, err := wholeRegexp(m.Value); err != nil {
			c.add(path, "%v", err)
		}
	default:
		c.add(path, "kind %d is not one of Exact, Prefix, Regex, Present", m.Kind)
	}
}

func wholeRegexp(s string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(s); err != nil { // a bracket too many must not close ours
		return nil, err
	}
	return regexp.Compile(`^(?s:` + s + `)$`)
}

// hostKey is the form in which hosts are compared: without port, in lower case.
func hostKey(h string) string {
	if i := strings.LastIndexByte(h, ':'); i >= 0 && strings.IndexByte(h[i:], ']') < 0 {
		h = h[:i]
	}
	h = strings.TrimSuffix(h, ".")
	for i := 0; i < len(h); i++ {
		if 'A' <= h[i] && h[i] <= 'Z' {
			return strings.ToLower(h)
		}
	}
	return h
}

// routing is a table ready to be followed. It never changes once it is stored.
type routing struct {
	number   int64
	since    time.Time
	services map[string]*service
	hosts    map[string]*service
	fallback *service
	routes   []Route
	splits   map[string]*splitter // by splitKey, to be carried on by the next table
}

type service struct {
	name     string
	rules    []rule
	versions map[string]*version
	stats    *serviceState
}

type rule struct {
	match []matcher
	dests []*version
	split *splitter
	// spare splits among the destinations that have endpoints, where some have
	// none: the block of split goes on, whatever comes and goes. nil where all
	// have endpoints, and where none has.
	spare *splitter
	none  bool // no destination has an endpoint

	weights           []int
	sticky            *sticky
	mirrors           []mirrorRule
	rewrite           *Rewrite
	request, response *change
	timeout           time.Duration
	retries           Retries
	shield            *version
}

// version is one version within one table.
type version struct {
	name      string
	header    []string // the value of Options.VersionHeader
	endpoints []*endpoint
	state     *versionState
	h2c       bool
	max       int      // requests in flight; 0 = no bound
	waiting   int      // how many may wait where there is no room
	overflow  *version // nil: nowhere
}

// lookup finds the service for a Host header, or nil.
func (t *routing) lookup(host string) *service {
	if s, ok := t.hosts[host]; ok {
		return s
	}
	if s, ok := t.hosts[hostKey(host)]; ok {
		return s
	}
	return t.fallback
}

// version gives a version by name, or nil.
func (t *routing) version(service, name string) *version {
	if s := t.services[service]; s != nil {
		return s.versions[name]
	}
	return nil
}

// route gives the rule for r, or nil.
func (s *service) route(r *http.Request) *rule {
	for i := range s.rules {
		if s.rules[i].holds(r) {
			return &s.rules[i]
		}
	}
	return nil
}

// pick deals one request out. The rule must not be none. cookie is what the
// answer must set, or "".
// user is who asked, where that is to keep them on one replica, or "".
func (ru *rule) pick(r *http.Request) (v *version, user, cookie string) {
	if ru.sticky != nil {
		user, cookie := ru.sticky.user(r)
		if user != "" {
			v := ru.sticky.choose(user, ru.dests, ru.weights)
			if !ru.sticky.Replica {
				user = ""
			}
			return v, user, cookie
		}
	}
	return ru.deal(), "", ""
}

// deal gives the next destination of the split.
func (ru *rule) deal() *version {
	v := ru.dests[ru.split.pick()]
	if ru.spare != nil && len(v.endpoints) == 0 {
		v = ru.dests[ru.spare.pick()]
	}
	return v
}

func (ru *rule) holds(r *http.Request) bool {
	if len(ru.match) == 0 {
		return true
	}
	for i := range ru.match {
		if ru.match[i].holds(r) {
			return true
		}
	}
	return false
}

type matcher struct {
	method  string
	scheme  string
	path    func(string) bool
	headers []namedMatcher
	without []namedMatcher
	cookies []namedMatcher
	query   []namedMatcher
}

type namedMatcher struct {
	name string
	ok   func(string) bool
}

func (m *matcher) holds(r *http.Request) bool {
	if m.method != "" && m.method != r.Method {
		return false
	}
	if m.scheme != "" && (m.scheme == "https") != (r.TLS != nil) {
		return false
	}
	if m.path != nil && !m.path(r.URL.EscapedPath()) {
		return false
	}
	for _, h := range m.headers {
		vv, ok := r.Header[h.name]
		if !ok || !h.ok(strings.Join(vv, ",")) {
			return false
		}
	}
	for _, h := range m.without {
		if vv, ok := r.Header[h.name]; ok && h.ok(strings.Join(vv, ",")) {
			return false
		}
	}
	for _, k := range m.cookies {
		ck, err := r.Cookie(k.name)
		if err != nil || !k.ok(ck.Value) {
			return false
		}
	}
	if m.query != nil {
		sent := r.URL.Query()
		for _, q := range m.query {
			if vv := sent[q.name]; len(vv) == 0 || !q.ok(vv[0]) {
				return false
			}
		}
	}
	return true
}

func compileMatch(m Match) matcher {
	out := matcher{method: m.Method, scheme: m.Scheme}
	if m.Path != nil {
		out.path = compileText(*m.Path)
		if m.AnyCase && (m.Path.Kind == Exact || m.Path.Kind == Prefix) {
			same := compileText(StringMatch{Kind: m.Path.Kind, Value: strings.ToLower(m.Path.Value)})
			out.path = func(s string) bool { return same(strings.ToLower(s)) }
		}
	}
	for _, h := range m.Headers {
		out.headers = append(out.headers, namedMatcher{textproto.CanonicalMIMEHeaderKey(h.Name), compileText(h.Value)})
	}
	for _, h := range m.Without {
		out.without = append(out.without, namedMatcher{textproto.CanonicalMIMEHeaderKey(h.Name), compileText(h.Value)})
	}
	for _, q := range m.Query {
		out.query = append(out.query, namedMatcher{q.Name, compileText(q.Value)})
	}
	for _, k := range m.Cookies {
		out.cookies = append(out.cookies, namedMatcher{k.Name, compileText(k.Value)})
	}
	return out
}

// compileText needs a StringMatch that was checked.
func compileText(m StringMatch) func(string) bool {
	want := m.Value
	switch m.Kind {
	case Prefix:
		return func(s string) bool { return strings.HasPrefix(s, want) }
	case Regex:
		re, err := wholeRegexp(want)
		if err != nil {
			return func(string) bool { return false }
		}
		return re.MatchString
	case Present:
		return func(string) bool { return true }
	}
	return func(s string) bool { return s == want }
}

// splitKey names a split for carrying it on to the next table: the same rule
// of the same service with the same destinations and weights.
func splitKey(service string, i int, r Rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", service)
	if r.Name != "" {
		fmt.Fprintf(&b, " %q", r.Name)
	} else {
		fmt.Fprintf(&b, " %d", i)
	}
	for _, d := range r.Split {
		fmt.Fprintf(&b, " %q=%d", d.Version, d.Weight)
	}
	return b.String()
}

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// compile makes t followable. old is the routing in force, whose splits go on
// where they are the same. Called with g.mu held, t checked.
func (g *Gateway) compile(t Table, old *routing, now time.Time) *routing {
	rt := &routing{number: t.Number, since: now, services: map[string]*service{}, hosts: map[string]*service{}, splits: map[string]*splitter{}}
	carry := func(key string, weights []int) *splitter {
		s := old.splits[key]
		if s == nil {
			g.splits++
			s = newSplitter(weights, g.o.Seed, hash(key)+g.splits)
		}
		rt.splits[key] = s
		return s
	}
	for _, ts := range t.Services {
		s := &service{name: ts.Name, stats: g.serviceState(ts), versions: map[string]*version{}}
		rt.services[ts.Name] = s
		for _, tv := range ts.Versions {
			s.versions[tv.Name] = g.compileVersion(s.stats, tv, now)
		}
		for _, tv := range ts.Versions {
			if tv.Overflow != "" {
				s.versions[tv.Name].overflow = s.versions[tv.Overflow]
			}
		}
		for i, tr := range ts.Rules {
			ru, effective := g.compileRule(tr, splitKey(ts.Name, i, tr), s.versions, carry)
			s.rules = append(s.rules, ru)
			rt.routes = append(rt.routes, Route{Service: ts.Name, Rule: tr.Name,
				Set: append([]Destination(nil), tr.Split...), Effective: effective})
		}
		for _, h := range ts.Hosts {
			rt.hosts[hostKey(h)] = s
		}
		if ts.Default {
			rt.fallback = s
		}
	}
	return rt
}

func (g *Gateway) compileRule(tr Rule, key string, versions map[string]*version, carry func(string, []int) *splitter) (rule, []Destination) {
	ru := rule{rewrite: tr.Rewrite, request: compileChange(tr.Request), response: compileChange(tr.Response),
		timeout: tr.Timeout, retries: tr.Retries, shield: versions[tr.Shield]}
	if tr.Rewrite != nil {
		rw := *tr.Rewrite
		ru.rewrite = &rw
	}
	if tr.Sticky != nil {
		ru.sticky = &sticky{Sticky: *tr.Sticky, key: g.o.StickyKey}
	}
	for i, m := range tr.Mirrors {
		ru.mirrors = append(ru.mirrors, mirrorRule{versions[m.Version],
			carry(fmt.Sprintf("%s mirror %d %q=%d", key, i, m.Version, m.Share), []int{FullWeight - m.Share, m.Share})})
	}
	for _, m := range tr.Match {
		ru.match = append(ru.match, compileMatch(m))
	}
	weights := make([]int, len(tr.Split))
	for i, d := range tr.Split {
		weights[i] = d.Weight
		ru.dests = append(ru.dests, versions[d.Version])
	}
	ru.weights = weights
	ru.split = carry(key, weights)
	have := func(i int) bool { return len(ru.dests[i].endpoints) > 0 }
	clipped := clip(weights, have)
	ru.none = clipped == nil
	var effective []Destination
	spared := false
	for i, w := range clipped {
		if w > 0 {
			effective = append(effective, Destination{tr.Split[i].Version, w})
		}
		spared = spared || (weights[i] > 0 && !have(i))
	}
	if spared {
		ru.spare = carry(fmt.Sprintf("%s spare %v", key, clipped), clipped)
	}
	return ru, effective
}

func (g *Gateway) compileVersion(s *serviceState, tv Version, now time.Time) *version {
	st := s.versionState(tv)
	v := &version{name: tv.Name, header: []string{tv.Name}, state: st, h2c: tv.H2C, max: tv.MaxInFlight, waiting: tv.MaxWaiting}
	for _, te := range tv.Endpoints {
		v.endpoints = append(v.endpoints, g.endpoint(st, te, now))
	}
	return v
}
