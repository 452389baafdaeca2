package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Spec says how one replica is run. Two Specs that marshal to the same JSON are
// the same Spec; Set restarts nothing for them.
type Spec struct {
	// Name is the stem of the replicas' names: "my-app-v2" gives "my-app-v2-0",
	// "my-app-v2-1". Empty: made of the key up to its "@", with "-" for "/".
	Name string

	// Command is the program and its arguments; no shell is involved. A program
	// with a slash is a path relative to Dir, one without is looked up in PATH.
	// "$(NAME)" is replaced by the value of PORT, HOST or a variable of Env,
	// "$$" by "$"; a reference to anything else stays as it is.
	Command []string

	// Env is added to the supervisor's own environment, in this order; a value
	// may refer to PORT, HOST and variables before it in the same way.
	Env []EnvVar

	// Dir is the working directory; relative to Options.Dir, which it is when empty.
	Dir string

	// PortEnv names the variable that carries the port; default "PORT". It and
	// HOST are the supervisor's to set and win over Env: replicas on one machine
	// cannot share the port that a document may state.
	PortEnv string

	// Ready says when a replica may get traffic; the zero value is a TCP connect
	// to its port.
	Ready Probe

	// StartTimeout is how long a start may take before Replica.Why calls it not
	// ready and says what the probe met; default 30 s. The process runs on.
	StartTimeout time.Duration

	// TerminationGracePeriod is the time between SIGTERM and SIGKILL; default
	// 30 s. Negative: SIGKILL at once.
	TerminationGracePeriod time.Duration
}

// EnvVar is one variable of a process's environment.
type EnvVar struct{ Name, Value string }

// Probe is a readiness check. Until a run has been ready once it is repeated
// quickly (25 ms, doubling up to Period); after that every Period.
type Probe struct {
	// HTTP asks for a 2xx or 3xx answer; redirects are not followed.
	// Nil: a TCP connect has to succeed.
	HTTP *HTTPGet

	Port             int           // 0: the replica's own port
	InitialDelay     time.Duration // before the first check of a run
	Period           time.Duration // default 1 s
	Timeout          time.Duration // of one check; default 1 s
	SuccessThreshold int           // successes in a row that make it ready; default 1
	FailureThreshold int           // failures in a row that make it unready; default 3
}

// HTTPGet is the request of a Probe.
type HTTPGet struct {
	Path    string // default "/"
	Headers []EnvVar
	HTTPS   bool // the certificate is not verified: it is this machine's own process
}

// withDefaults fills what was left empty, from the key where it is the key's.
func (s Spec) withDefaults(key string) Spec {
	if s.Name == "" {
		stem, _, _ := strings.Cut(key, "@")
		s.Name = strings.ReplaceAll(stem, "/", "-")
	}
	if s.PortEnv == "" {
		s.PortEnv = "PORT"
	}
	s.StartTimeout = orDuration(s.StartTimeout, 30*time.Second)
	s.TerminationGracePeriod = orDuration(s.TerminationGracePeriod, 30*time.Second)
	p := &s.Ready
	p.Period = orDuration(p.Period, time.Second)
	p.Timeout = orDuration(p.Timeout, time.Second)
	p.SuccessThreshold = max(p.SuccessThreshold, 1)
	if p.FailureThreshold == 0 {
		p.FailureThreshold = 3
	}
	if p.HTTP != nil {
		get := *p.HTTP
		if !strings.HasPrefix(get.Path, "/") {
			get.Path = "/" + get.Path
		}
		p.HTTP = &get
	}
	return s
}

func orDuration(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// validate reports every problem of a Spec at once.
func (s Spec) validate() error {
	var errs []error
	bad := func(path, format string, args ...any) {
		errs = append(errs, fmt.Errorf(path+": "+format, args...))
	}
	if len(s.Command) == 0 || s.Command[0] == "" {
		bad("command", "is empty: want the program and its arguments")
	}
	for i, a := range s.Command {
		if strings.ContainsRune(a, 0) {
			bad(fmt.Sprintf("command[%d]", i), "has a zero byte, which no argument can carry")
		}
	}
	for i, e := range s.Env {
		if e.Name == "" || strings.ContainsAny(e.Name, "=\x00") {
			bad(fmt.Sprintf("env[%d].name", i), "is %q: want a name without '=' and zero bytes", e.Name)
		}
		if strings.ContainsRune(e.Value, 0) {
			bad(fmt.Sprintf("env[%d].value", i), "has a zero byte, which no variable can carry")
		}
	}
	if strings.ContainsAny(s.PortEnv, "=\x00") {
		bad("portEnv", "is %q: want a name without '=' and zero bytes", s.PortEnv)
	}
	if p := s.Ready.Port; p < 0 || p > 65535 {
		bad("ready.port", "is %d: want 0 (the replica's own) to 65535", p)
	}
	for _, d := range []struct {
		path string
		d    time.Duration
	}{
		{"startTimeout", s.StartTimeout},
		{"ready.initialDelay", s.Ready.InitialDelay},
		{"ready.period", s.Ready.Period},
		{"ready.timeout", s.Ready.Timeout},
	} {
		if d.d < 0 {
			bad(d.path, "is %s: want zero (the default) or more", d.d)
		}
	}
	for _, n := range []struct {
		path string
		n    int
	}{
		{"ready.successThreshold", s.Ready.SuccessThreshold},
		{"ready.failureThreshold", s.Ready.FailureThreshold},
	} {
		if n.n < 0 {
			bad(n.path, "is %d: want zero (the default) or more", n.n)
		}
	}
	return errors.Join(errs...)
}

// fingerprint tells Specs apart: replicas that were started from another one
// than their set has now are the old ones of a rolling change.
func (s Spec) fingerprint() string {
	b, err := json.Marshal(s)
	if err != nil { // strings, numbers and slices of them only
		panic(err)
	}
	return string(b)
}
