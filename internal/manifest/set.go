package manifest

import (
	"fmt"
	"strings"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
)

// Set is everything that a folder asks for. Lists are sorted by name.
type Set struct {
	Apps  []App
	Notes []Note
}

// App is one Rollout and everything that belongs to it.
type App struct {
	Name      string
	Namespace string

	// Rollout has its defaults filled in and is valid. It is the folder's own,
	// or, where Derived is not empty, the default one for the folder's routes.
	Rollout *v1alpha1.Rollout
	// File the Rollout is in; empty when derived.
	File string
	// Derived says from what the default Rollout was made, in one sentence.
	Derived string

	// InPlace: one Deployment that is edited. Otherwise one Deployment per version.
	InPlace bool
	// Label tells versions apart; empty when InPlace.
	Label string

	Service  Service
	Subsets  []Subset
	Route    Route
	Versions []Version // by label; empty if the Deployments are gone
	Stable   []string  // labels that the files' route sends to; one, unless it is ambiguous

	// Declared are the weights that the files ask for, in 1/10000, by version
	// label. Nil where the route names no version.
	Declared map[string]int

	Findings []Finding
}

// Service is what users call.
type Service struct {
	Name       string
	Namespace  string
	Port       int               // what callers use
	HTTP2      bool              // its pods are spoken to in HTTP/2 without TLS, as gRPC needs it
	TargetPort string            // number or name of the container's port
	Selector   map[string]string // of the pods behind it
}

// Subset is a version as the route names it.
type Subset struct {
	Name    string
	Labels  map[string]string
	Version string // value of the App's label; empty if the subset does not have it
	Limit   *Limit // of this version; nil: Route.Limit
}

// Route is a VirtualService.
type Route struct {
	Name string
	// Hosts are exact names, in lower case; a Service's short name comes with
	// its longer forms.
	Hosts []string
	// AnyHost: the route answers for every host ("*").
	AnyHost bool
	Rules   []Rule

	Sticky *Sticky // nil: requests are split one by one
	Limit  *Limit  // of each version; nil: none
}

// Rule sends what it matches to its destinations.
type Rule struct {
	Name string
	// Match lists alternatives; empty matches everything.
	Match []Match
	// To has each version at most once; the weights sum up to 10000.
	To []Destination
	// Split: the rollout moves the weights of this rule.
	Split bool
	Policy
}

// Destination is a version and its weight.
type Destination struct {
	Subset  string // empty: the whole Service
	Version string // label; empty: whatever version there is
	Weight  int    // in 1/10000
}

// Match holds when all of its parts hold.
type Match struct {
	Method  string // exact; empty = any
	Scheme  string // http or https; empty = any
	Path    *StringMatch
	AnyCase bool         // of an exact path or a prefix
	Headers []NamedMatch // by name, in lower case
	Without []NamedMatch // headers: one that holds makes the match fail
	Query   []NamedMatch // parameters
}

// NamedMatch is a condition on a header or a parameter.
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
type MatchKind string

// How a text can be matched.
const (
	Exact   MatchKind = "exact"
	Prefix  MatchKind = "prefix"
	Regex   MatchKind = "regex"   // RE2, from the first to the last character
	Present MatchKind = "present" // any value
)

// Version is one Deployment as it stands.
type Version struct {
	Label      string // "v2"
	Deployment string
	Namespace  string
	File       string

	Hash     string // of the pod template
	Revision string // Label@Hash

	Replicas int
	Labels   map[string]string // of the pods

	Image   string
	Command []string // program and arguments; empty only with Options.Unstarted
	FromRun bool     // Command comes from Options.Run, not from the container
	Env     []EnvVar
	Dir     string // working directory; empty = the caller's

	Ready Probe
	// Grace is the time between SIGTERM and SIGKILL; 30 s where not given.
	Grace time.Duration
	// ContainerPort is what the documents say the program listens at. On one
	// machine every replica gets a port of its own in $PORT instead.
	ContainerPort int
}

// EnvVar is one variable.
type EnvVar struct{ Name, Value string }

// Probe is a readiness check. HTTP nil: a TCP connect has to succeed.
type Probe struct {
	HTTP             *HTTPGet
	Port             int // 0: the replica's own
	InitialDelay     time.Duration
	Period           time.Duration // 0: not given, as below
	Timeout          time.Duration
	SuccessThreshold int
	FailureThreshold int
}

// HTTPGet is the request of a Probe.
type HTTPGet struct {
	Path    string
	HTTPS   bool
	Headers []EnvVar
}

// Level says how much a Finding matters.
type Level string

const (
	// Refuse: no traffic may move.
	Refuse Level = "Refuse"
	// Warn: people should know.
	Warn Level = "Warn"
)

// Finding is what would go wrong in a rollout, in one sentence, and the remedy.
type Finding struct {
	Level Level
	// Version is the label that it is about; empty: whatever version is released.
	Version string
	What    string
	Remedy  string
}

// Note is something harmless that has no effect on one machine; one for each
// kind and field, with all the objects that have it.
type Note struct {
	Kind    string
	Field   string // empty: the object as a whole
	Objects []string
	Why     string
}

func (n Note) String() string {
	what := n.Kind
	if n.Field != "" {
		what += " " + n.Field
	}
	return fmt.Sprintf("%s has no effect here: %s (%s)", what, n.Why, strings.Join(n.Objects, ", "))
}

// Problem is something that was not understood or contradicts itself.
type Problem struct {
	File    string
	Line    int    // from 1; 0 = not known
	Object  string // Kind/name
	Path    string
	Message string
}

func (p Problem) String() string {
	where := p.File
	if p.Line > 0 {
		where += fmt.Sprintf(":%d", p.Line)
	}
	var parts []string
	for _, s := range []string{where, p.Object, p.Path, p.Message} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// Problems are all there are, in the order of files and lines.
type Problems []Problem

// Error has one problem per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err is nil when there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}
