package gateway

import "time"

// FullWeight is the sum of the weights of one split: weights are in 1/10000.
const FullWeight = 10000

// Table is the whole routing at one instant. It is a value: the gateway keeps
// nothing of it that the caller may change afterwards.
type Table struct {
	// Number is the caller's own, for example that of a decision; the gateway
	// gives it back in the Receipt and attaches no meaning to it.
	Number   int64
	Services []Service
}

// Service is what answers for one or more hosts.
type Service struct {
	Name      string
	Namespace string // for the labels of the metrics; "default" if empty

	// Hosts are exact names, compared without regard to case and port.
	Hosts []string
	// Default makes the service answer for every host that no service names.
	// At most one service of a table has it.
	Default bool

	// Rules are tried in order; the first that matches decides. A request that
	// no rule matches is answered with 404.
	Rules []Rule
	// Versions are what the rules' destinations name. A version may have no
	// endpoints (yet): then its share goes to the other destinations of the
	// rule in proportion to their weights.
	Versions []Version
}

// Version is one version of a service.
type Version struct {
	Name     string // the version label: "v1"
	Workload string // for the label destination_workload; Name if empty

	Endpoints []Endpoint

	// H2C makes the gateway speak HTTP/2 without TLS to the endpoints, as gRPC
	// needs it. Otherwise it speaks HTTP/1.1 to them, whatever the client speaks.
	H2C bool
	// MaxInFlight bounds the requests in flight of the version; 0 = no bound.
	// What is over it goes to the version Overflow of the same service, if that
	// has room itself. Otherwise at most MaxWaiting requests wait for their turn,
	// in order, and the rest is answered with 503. What went elsewhere and what
	// was refused is counted as shed: it says nothing about the version.
	MaxInFlight int
	MaxWaiting  int
	Overflow    string // "" = nowhere
}

// Endpoint is one replica of a version.
type Endpoint struct {
	Replica string // name of the replica, unique in its version
	Address string // host:port
}

// Rule sends the requests that it matches to its destinations.
type Rule struct {
	Name string // for messages and the Receipt; may be empty

	// Match lists alternatives, one of which must hold. Empty matches all.
	Match []Match
	// Split has at least one destination, each version at most once; the
	// weights sum up to FullWeight.
	Split []Destination

	// Sticky keeps a user on one version; nil splits request by request.
	Sticky *Sticky
	// Mirrors get copies of requests; their answers go to nobody.
	Mirrors []Mirror
	// Rewrite changes path and host on the way to the endpoint.
	Rewrite *Rewrite
	// Request and Response change headers on the way there and back.
	Request, Response HeaderChange
	// Timeout bounds a request from its head to the end of its answer; 0 = none.
	// Upgraded connections are bounded until they are upgraded.
	Timeout time.Duration
	// Retries repeats, within the version, what failed and may be repeated.
	Retries Retries
	// Shield names the version on which a request is repeated that failed on
	// another one (no answer, or 5xx), if it is idempotent and has no body. The
	// failure is counted where it happened, the repetition apart. "" = off.
	Shield string
}

// Destination is one share of a split.
type Destination struct {
	Version string
	Weight  int // in 1/10000
}

// Sticky says by what a user is known. The user's version follows from that and
// the weights alone, so raising a weight moves users to that version and none
// away from it. Shares are exact for users in the long run, not for requests.
// Exactly one of the fields is set.
type Sticky struct {
	Header string // the value of this header; without it, the rule's split decides
	Cookie string // the value of this cookie, which the application sets; without it, the split decides
	// OwnCookie names a cookie that the gateway sets, signed with
	// Options.StickyKey. A value with a wrong signature is replaced.
	OwnCookie string

	// Path and Age are the own cookie's: "/" where Path is empty; 30 days where
	// Age is 0, and until the browser is closed where it is negative.
	Path string
	Age  time.Duration
	// Replica keeps a user who is known on one replica of the version too, as
	// long as it is there.
	Replica bool
}

// Mirror copies a share of the requests to a version. A copy is not awaited, is
// dropped when too many are under way, and is not made of a request whose body
// is larger than 16 KiB or of unknown length. Its Host has "-shadow" appended.
type Mirror struct {
	Version string
	Share   int // in 1/10000
}

// Rewrite changes the request's target. The query stays as it was sent.
type Rewrite struct {
	Authority string // replaces the Host; "" = as sent
	// Path replaces the path where Prefix is "" and Path is not; otherwise it
	// replaces Prefix at the path's beginning.
	Prefix, Path string
}

// HeaderChange changes headers: first Remove, then Set, then Add.
type HeaderChange struct {
	Remove   []string
	Set, Add []Header
}

// Header is one header with its value.
type Header struct{ Name, Value string }

// Retries bounds what is repeated beyond the one repetition of attempts that
// provably did nothing. Only idempotent requests without a body are repeated;
// every failed attempt is counted where it failed.
type Retries struct {
	Attempts int           // repetitions, at most 10; 0 = none
	PerTry   time.Duration // bounds the wait for the answer's head in one attempt; 0 = none
	On5xx    bool          // repeats answers with 5xx too, not only where no answer came
}

// Match holds when all of its parts hold. The zero Match matches everything.
type Match struct {
	Method  string       // exact; "" = any
	Scheme  string       // "http" or "https", of the client's connection; "" = any
	Path    *StringMatch // against the path as it was sent, without the query
	AnyCase bool         // Path's Exact and Prefix take no notice of case
	Headers []NamedMatch // several values of one header are joined by ","
	Without []NamedMatch // headers: a request that one of them holds for does not match
	Cookies []NamedMatch
	Query   []NamedMatch // parameters; of one that is there twice the first counts
}

// NamedMatch is a condition on the value of one header, cookie or parameter. One
// that is absent matches nothing.
type NamedMatch struct {
	Name  string
	Value StringMatch
}

// StringMatch is a condition on a text.
type StringMatch struct {
	Kind  MatchKind
	Value string
}

// MatchKind says how a StringMatch compares.
type MatchKind uint8

const (
	Exact   MatchKind = iota // equal
	Prefix                   // begins with
	Regex                    // RE2, matches from the first to the last character
	Present                  // any value, the empty one too; Value is not looked at
)

// Receipt says which table new requests follow.
type Receipt struct {
	Number int64     // of the Table; 0 before the first Swap
	Since  time.Time // when it was put in force; zero before the first Swap
	Routes []Route   // every rule of every service, in the table's order
}

// Route is one rule as it is in force.
type Route struct {
	Service string
	Rule    string
	// Set is the split as the table has it, Effective what it comes to now that
	// versions without endpoints are left out. Effective is empty when no
	// destination has an endpoint: then the rule answers 503.
	Set, Effective []Destination
}
