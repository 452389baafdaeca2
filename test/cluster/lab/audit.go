package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const auditFile = "audit.log"

// Request is one request to the API server, as the server wrote it down.
type Request struct {
	At                                       time.Time
	User, Verb, Group, Resource, Subresource string
	Namespace, Name, Agent                   string
	Code                                     int
	Forbidden                                bool // by the authorizer, and not by anybody after it
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

// Requests reads what a user has asked the API server for since a moment, each
// request once, in the order of their ends. Those of the cluster's own
// components are not written down.
func (c *Cluster) Requests(user string, since time.Time) ([]Request, error) {
	f, err := os.Open(filepath.Join(c.dir, auditFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []Request
	seen := map[string]bool{}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var e struct {
			AuditID, Stage, Verb, RequestURI, UserAgent string
			RequestReceivedTimestamp                    time.Time
			User                                        struct{ Username string }
			ObjectRef                                   *struct{ Resource, Subresource, Namespace, Name, APIGroup string }
			ResponseStatus                              struct{ Code int }
			Annotations                                 map[string]string
		}
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			continue // the line that is being written
		}
		if e.User.Username != user || e.RequestReceivedTimestamp.Before(since) || seen[e.AuditID] {
			continue
		}
		seen[e.AuditID] = true
		r := Request{At: e.RequestReceivedTimestamp, User: user, Verb: e.Verb, Resource: e.RequestURI, Code: e.ResponseStatus.Code, Agent: e.UserAgent, Forbidden: e.Annotations["authorization.k8s.io/decision"] == "forbid"}
		if e.ObjectRef != nil {
			r.Resource, r.Subresource, r.Namespace, r.Name, r.Group = e.ObjectRef.Resource, e.ObjectRef.Subresource, e.ObjectRef.Namespace, e.ObjectRef.Name, e.ObjectRef.APIGroup
		}
		out = append(out, r)
	}
	return out, sc.Err()
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
