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
}

// Destination is one share of a split.
type Destination struct {
	Version string
	Weight  int // in 1/10000
}

// Match holds when all of its parts hold. The zero Match matches everything.
type Match struct {
	Method  string       // exact; "" = any
	Path    *StringMatch // against the path as it was sent, without the query
	Headers []NamedMatch // several values of one header are joined by ","
	Cookies []NamedMatch
}

// NamedMatch is a condition on the value of one header or cookie. A header or
// cookie that is absent matches nothing.
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
