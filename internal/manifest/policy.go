package manifest

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Sticky says by what users are known who are to stay on one version, and on
// one replica of it. One of Header and Cookie is set.
type Sticky struct {
	Header string
	Cookie string
	// Own: the gateway sets the cookie itself, with this path, to be kept for
	// Age; until the browser is closed where Age is 0.
	Own  bool
	Path string
	Age  time.Duration
}

// Limit bounds the requests in flight of one version.
type Limit struct {
	InFlight int
	Waiting  int // how many more may wait for their turn
}

// Policy is what a rule asks for beyond where it sends a request.
type Policy struct {
	Timeout           time.Duration // from a request's head to the end of its answer; 0 = none
	Retries           Retries
	Mirrors           []Mirror
	Rewrite           *Rewrite
	Request, Response HeaderChange
}

// Retries says how often what failed is repeated.
type Retries struct {
	Attempts int
	PerTry   time.Duration // 0 = none
	On5xx    bool          // answers with 5xx too
}

// Mirror copies a share of the requests to a version.
type Mirror struct {
	Subset, Version string
	Share           int // in 1/10000
}

// Rewrite changes host and path. URI replaces the part of the path that the
// rule matched: the prefix, or all of it.
type Rewrite struct{ Authority, URI string }

// HeaderChange changes headers: Remove first, then Set, then Add; by name.
type HeaderChange struct {
	Remove   []string
	Set, Add []EnvVar
}

// policies reads what stands for itself in a VirtualService, so that all that is
// wrong with it is said together with what is refused.
func (l *loader) policies(v read[virtualServiceObject]) {
	l.hostNames(v.where, v.body.Spec.Hosts)
	first := map[string]int{}
	for i, h := range v.body.Spec.HTTP {
		at := fmt.Sprintf("spec.http[%d]", i)
		if other, twice := first[h.Name]; twice && h.Name != "" {
			l.wrong(v.where, at+".name", "%s is the name of http[%d] already: each route has a name of its own", clip(h.Name), other)
		} else {
			first[h.Name] = i
		}
		for j, m := range h.Match {
			l.match(v.where, fmt.Sprintf("%s.match[%d]", at, j), m)
		}
		l.policy(v.where, at, h)
	}
}

func (l *loader) policy(w where, at string, h httpRoute) Policy {
	p := Policy{
		Timeout: l.duration(w, at+".timeout", h.Timeout),
		Retries: l.retries(w, at+".retries", h.Retries),
		Rewrite: l.rewrite(w, at, h),
	}
	if h.Headers != nil {
		p.Request = l.headers(w, at+".headers.request", h.Headers.Request)
		p.Response = l.headers(w, at+".headers.response", h.Headers.Response)
	}
	for at, m := range l.mirrored(w, at, h) {
		l.share(w, at, m.percent)
	}
	return p
}

// duration reads what Istio calls one: "2.5s", "1h3m"; "0s" is none.
func (l *loader) duration(w where, at, s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > 0 && d < time.Millisecond || d > 24*time.Hour {
		l.wrong(w, at, "%q: a time from 1ms to 24h is meant, such as 2.5s", clip(s))
		return 0
	}
	return d
}

const maxAttempts = 10

// answerless are the words of retryOn for attempts that got no answer, which
// the gateway does not tell apart.
var answerless = []string{"connect-failure", "refused-stream", "reset", "reset-before-request"}

func (l *loader) retries(w where, at string, o *retriesObject) Retries {
	if o == nil {
		return Retries{}
	}
	r := Retries{Attempts: int(o.Attempts), PerTry: l.duration(w, at+".perTryTimeout", o.PerTryTimeout)}
	if o.Attempts < 0 || o.Attempts > maxAttempts {
		l.wrong(w, at+".attempts", "%d: from 0 to %d are meant", o.Attempts, maxAttempts)
		r.Attempts = 0
	}
	for word := range strings.SplitSeq(o.RetryOn, ",") {
		switch word = strings.TrimSpace(word); {
		case word == "" && o.RetryOn == "", slices.Contains(answerless, word):
		case word == "5xx":
			r.On5xx = true
		default:
			l.wrong(w, at+".retryOn", "%q is not done on one machine, which knows 5xx, %s; %s", clip(word), strings.Join(answerless, ", "), keepApart)
		}
	}
	return r
}

func (l *loader) rewrite(w where, at string, h httpRoute) *Rewrite {
	o := h.Rewrite
	if o == nil || o.URI == "" && o.Authority == "" {
		return nil
	}
	at += ".rewrite"
	if o.URI != "" && (!strings.HasPrefix(o.URI, "/") || strings.ContainsAny(o.URI, "?# ") || control(o.URI)) {
		l.wrong(w, at+".uri", "%q: a path is meant: it begins with / and has no ?, # or space", clip(o.URI))
	}
	if o.Authority != "" && !isAuthority(o.Authority) {
		l.wrong(w, at+".authority", "%q: a host is meant, with or without a port", clip(o.Authority))
	}
	for i, m := range h.Match {
		if o.URI != "" && m.IgnoreURICase && m.URI != nil && m.URI.Prefix != nil {
			l.wrong(w, at+".uri", "replaces a prefix that match[%d] takes in any case, which is not done here: give the prefix as it is sent", i)
		}
	}
	return &Rewrite{Authority: o.Authority, URI: o.URI}
}

func control(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

var portPart = regexp.MustCompile(`:[0-9]{1,5}$`)

func isAuthority(s string) bool {
	host := portPart.ReplaceAllString(s, "")
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return isName(strings.ToLower(host))
}

func (l *loader) headers(w where, at string, o headerOperations) HeaderChange {
	var c HeaderChange
	for i, name := range o.Remove {
		l.headerName(w, fmt.Sprintf("%s.remove[%d]", at, i), name)
		c.Remove = append(c.Remove, name)
	}
	fields := func(what string, m map[string]string) (out []EnvVar) {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			field := at + "." + what
			l.headerName(w, field, name)
			value, ok := plainValue(m[name])
			if !ok {
				l.wrong(w, field, "%s: %q: the gateway writes values as they stand: no %%...%%, which is filled in elsewhere (%%%% is a per cent sign), and no control characters", clip(name), clip(m[name]))
			}
			out = append(out, EnvVar{Name: name, Value: value})
		}
		return out
	}
	c.Set, c.Add = fields("set", o.Set), fields("add", o.Add)
	return c
}

var anyHeaderName = regexp.MustCompile("^[!#$%&'*+.^`|~0-9A-Za-z-]{1,128}$")

// gatewaysOwn are headers that documents cannot change: they frame the message,
// belong to one connection, or are what the gateway itself says.
var gatewaysOwn = []string{
	"Connection", "Content-Length", "Expect", "Forwarded", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Real-Ip", "X-Request-Id",
}

func (l *loader) headerName(w where, at, name string) {
	key := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case name == ":authority" || key == "Host":
		l.wrong(w, at, "%s is changed by rewrite.authority", name)
	case !anyHeaderName.MatchString(name):
		l.wrong(w, at, "%q: a header's name is meant", clip(name))
	case slices.Contains(gatewaysOwn, key) || strings.HasPrefix(key, "X-Forwarded-"):
		l.wrong(w, at, "%s cannot be changed: the gateway sets it", name)
	}
}

// plainValue reads a header's value as Envoy writes it.
func plainValue(s string) (string, bool) {
	s = strings.ReplaceAll(s, "%%", "\x00")
	if strings.Contains(s, "%") || control(strings.ReplaceAll(s, "\x00", "")) {
		return "", false
	}
	return strings.ReplaceAll(s, "\x00", "%"), true
}

// mirrored gives the mirrors of a rule by the path of each.
type mirrored struct {
	to      destinationObject
	percent *percentObject
}

func (l *loader) mirrored(w where, at string, h httpRoute) map[string]mirrored {
	all := map[string]mirrored{}
	if h.Mirror != nil {
		all[at+".mirror"] = mirrored{*h.Mirror, h.MirrorPercentage}
	} else if h.MirrorPercentage != nil {
		l.wrong(w, at+".mirrorPercentage", "of what? mirror is missing")
	}
	for i, m := range h.Mirrors {
		all[fmt.Sprintf("%s.mirrors[%d]", at, i)] = mirrored{m.Destination, m.Percentage}
	}
	return all
}

// share gives a percentage in 1/10000; everything where none is given.
func (l *loader) share(w where, at string, p *percentObject) int {
	if p == nil {
		return 10000
	}
	share := int(math.Round(float64(p.Value) * 100))
	if p.Value < 0 || p.Value > 100 {
		if rest, single := strings.CutSuffix(at, ".mirror"); single {
			at = rest + ".mirrorPercentage"
		} else {
			at += ".percentage"
		}
		l.wrong(w, at+".value", "%v: from 0 to 100 is meant", p.Value)
	}
	return share
}

// mirrors finds the versions that a rule's copies go to.
func (l *loader) mirrors(p parts, a App, at string, h httpRoute) []Mirror {
	all := l.mirrored(p.virtual.where, at, h)
	var out []Mirror
	for _, field := range slices.Sorted(maps.Keys(all)) {
		m := all[field]
		to := field
		if !strings.HasSuffix(field, ".mirror") {
			to += ".destination"
		}
		dest, ok := l.subsetOf(p, a, to, m.to)
		switch {
		case !ok:
		case a.Service.HTTP2:
			l.wrong(p.virtual.where, field, "Service/%s speaks HTTP/2 to its pods: copies are made over HTTP/1.1 alone", a.Service.Name)
		case dest.Version == "":
			l.wrong(p.virtual.where, to+".subset", "is missing: the version that gets the copies; there are %s", strings.Join(firstFew(subsetNames(a)), ", "))
		default:
			out = append(out, Mirror{Subset: dest.Subset, Version: dest.Version, Share: l.share(p.virtual.where, field, m.percent)})
		}
	}
	return out
}

// destinationPolicies reads what stands for itself in a DestinationRule.
func (l *loader) destinationPolicies(d read[destinationRuleObject]) {
	l.sticky(d.where, "spec.trafficPolicy.loadBalancer.consistentHash", d.body.Spec.TrafficPolicy)
	l.limit(d.where, "spec.trafficPolicy", d.body.Spec.TrafficPolicy)
	for i, s := range d.body.Spec.Subsets {
		l.limit(d.where, fmt.Sprintf("spec.subsets[%d].trafficPolicy", i), s.TrafficPolicy)
	}
}

func (l *loader) sticky(w where, at string, p *trafficPolicyObject) *Sticky {
	if p == nil || p.LoadBalancer.ConsistentHash == nil {
		return nil
	}
	h := p.LoadBalancer.ConsistentHash
	switch {
	case (h.HTTPHeaderName != "") == (h.HTTPCookie != nil):
		l.wrong(w, at, "give one of httpHeaderName and httpCookie")
	case h.HTTPHeaderName != "":
		if !anyHeaderName.MatchString(h.HTTPHeaderName) {
			l.wrong(w, at+".httpHeaderName", "%q: a header's name is meant", clip(h.HTTPHeaderName))
		}
		return &Sticky{Header: h.HTTPHeaderName}
	default:
		c := h.HTTPCookie
		if !anyHeaderName.MatchString(c.Name) { // both are tokens
			l.wrong(w, at+".httpCookie.name", "%q: a cookie's name is meant", clip(c.Name))
		}
		if c.Path != "" && (c.Path[0] != '/' || strings.ContainsAny(c.Path, ";, \"") || control(c.Path)) {
			l.wrong(w, at+".httpCookie.path", "%q: a path is meant", clip(c.Path))
		}
		s := &Sticky{Cookie: c.Name, Own: c.TTL != nil, Path: c.Path}
		if c.TTL != nil {
			var err error
			if s.Age, err = time.ParseDuration(*c.TTL); err != nil || s.Age < 0 || s.Age > 0 && s.Age < time.Second {
				l.wrong(w, at+".httpCookie.ttl", "%q: 0s or a time from 1s is meant", clip(*c.TTL))
			}
		}
		return s
	}
	return nil
}

// longQueue is how many may wait where a document bounds the requests in flight
// and not those that wait for them.
const longQueue = 65536

// limit reads the bounds of a version's requests. Over HTTP/1.1 a connection is
// a request in flight.
func (l *loader) limit(w where, at string, p *trafficPolicyObject) *Limit {
	if p == nil {
		return nil
	}
	pool := p.ConnectionPool
	given := func(field string, n *int32) (int, bool) {
		if n == nil {
			return 0, false
		}
		if *n < 0 {
			l.wrong(w, at+".connectionPool."+field, "%d: 0 or more is meant", *n)
			return 0, false
		}
		return int(*n), true
	}
	connections, byConnections := given("tcp.maxConnections", pool.TCP.MaxConnections)
	requests, byRequests := given("http.http2MaxRequests", pool.HTTP.HTTP2MaxRequests)
	waiting, bounded := given("http.http1MaxPendingRequests", pool.HTTP.HTTP1MaxPendingRequests)
	for field, zero := range map[string]bool{"tcp.maxConnections": byConnections && connections == 0, "http.http2MaxRequests": byRequests && requests == 0} {
		if zero {
			l.wrong(w, at+".connectionPool."+field, "0: nobody could be answered; 1 or more is meant")
		}
	}
	switch {
	case byConnections && byRequests:
		if !bounded {
			waiting = longQueue
		}
		return &Limit{InFlight: min(connections, requests), Waiting: waiting}
	case byConnections:
		if !bounded {
			waiting = longQueue
		}
		return &Limit{InFlight: connections, Waiting: waiting}
	case byRequests:
		return &Limit{InFlight: requests, Waiting: waiting}
	}
	return nil // what may wait has no effect where nothing has to
}
