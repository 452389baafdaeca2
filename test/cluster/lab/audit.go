package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const auditFile = "audit.log"

// Request is one request to the API server, as the server wrote it down.
type Request struct {
	At                                       time.Time // when it came in
	User, Verb, Group, Resource, Subresource string
	Namespace, Name, Agent                   string
	Code                                     int
	Forbidden                                bool // by the authorizer, and not by anybody after it
	// Version is the resource version that a write to a route or a Deployment
	// got; 0 where it got none, and for everything else.
	Version uint64
}

// What is the kind of request in one word: "patch rollouts/status".
func (r Request) What() string {
	s := r.Verb + " " + r.Resource
	if r.Subresource != "" {
		s += "/" + r.Subresource
	}
	return s
}

// Writes tells whether the request can have changed something.
func (r Request) Writes() bool {
	return slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, r.Verb)
}

// Lease tells whether the request is about who leads.
func (r Request) Lease() bool { return r.Resource == "leases" }

// audit is the server's log as far as it was read: each line is parsed once,
// however often somebody asks.
type audit struct {
	mu     sync.Mutex
	offset int64
	seen   map[string]bool // by the request's own id
	all    []Request
}

// Requests reads what a user has asked the API server for since a moment, each
// request once, in the order of their ends; "" is everybody. Those of the
// cluster's own components are not written down.
func (c *Cluster) Requests(user string, since time.Time) ([]Request, error) {
	a := &c.audit
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.read(filepath.Join(c.dir, auditFile)); err != nil {
		return nil, err
	}
	var out []Request
	for _, r := range a.all {
		if (user == "" || r.User == user) && !r.At.Before(since) {
			out = append(out, r)
		}
	}
	return out, nil
}

// read takes in the lines that are new.
func (a *audit) read(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(a.offset, io.SeekStart); err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	whole := bytes.LastIndexByte(b, '\n') + 1 // the last line may still be written
	a.offset += int64(whole)
	if a.seen == nil {
		a.seen = map[string]bool{}
	}
	for line := range bytes.Lines(b[:whole]) {
		var e struct {
			AuditID, Verb, RequestURI, UserAgent string
			RequestReceivedTimestamp             time.Time
			User                                 struct{ Username string }
			ObjectRef                            *struct{ Resource, Subresource, Namespace, Name, APIGroup string }
			ResponseStatus                       struct{ Code int }
			ResponseObject                       struct {
				Metadata struct{ ResourceVersion string }
			}
			Annotations map[string]string
		}
		// An API server that was killed leaves half a line.
		if json.Unmarshal(line, &e) != nil || a.seen[e.AuditID] {
			continue
		}
		a.seen[e.AuditID] = true
		r := Request{At: e.RequestReceivedTimestamp, User: e.User.Username, Verb: e.Verb, Resource: e.RequestURI, Code: e.ResponseStatus.Code, Agent: e.UserAgent, Forbidden: e.Annotations["authorization.k8s.io/decision"] == "forbid"}
		if e.ObjectRef != nil {
			r.Resource, r.Subresource, r.Namespace, r.Name, r.Group = e.ObjectRef.Resource, e.ObjectRef.Subresource, e.ObjectRef.Namespace, e.ObjectRef.Name, e.ObjectRef.APIGroup
		}
		if v, err := strconv.ParseUint(e.ResponseObject.Metadata.ResourceVersion, 10, 64); err == nil {
			r.Version = v
		}
		a.all = append(a.all, r)
	}
	return nil
}

// Count sums requests up by kind, the commonest first.
func Count(rs []Request) string {
	n := map[string]int{}
	for _, r := range rs {
		n[r.What()]++
	}
	kinds := make([]string, 0, len(n))
	for k := range n {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(a, b string) int {
		if n[a] != n[b] {
			return n[b] - n[a]
		}
		return strings.Compare(a, b)
	})
	var b strings.Builder
	for _, k := range kinds {
		fmt.Fprintf(&b, "%6d  %s\n", n[k], k)
	}
	return b.String()
}
