package daemon

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/serin-dev/serin/internal/workload/process"
	"github.com/serin-dev/serin/internal/workload/versions"
)

// procs runs versions as supervised processes. What versions keeps as "how a
// replica is run" is a process.Spec as JSON.
type procs struct{ sup *process.Supervisor }

func runSpec(s process.Spec) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil { // strings, numbers and slices of them only
		panic(err)
	}
	return b
}

func (p procs) Set(key, stem string, run json.RawMessage, replicas int) error {
	var spec process.Spec
	if err := json.Unmarshal(run, &spec); err != nil {
		return fmt.Errorf("how %s is run cannot be read: %w", key, err)
	}
	spec.Name = stem
	return p.sup.Set(key, spec, replicas)
}

func (p procs) Remove(key string) { p.sup.Remove(key) }

// startPatience is process.Spec's default for StartTimeout: a replica that has
// not become ready in it counts as one that cannot start.
const startPatience = 30 * time.Second

func (p procs) List() []versions.Replica {
	list := p.sup.List()
	out := make([]versions.Replica, 0, len(list))
	for _, r := range list {
		ending := r.State == process.Draining || r.State == process.Stopping
		late := r.State == process.Starting && !r.Started.IsZero() && time.Since(r.Started) > startPatience
		out = append(out, versions.Replica{
			Key: r.Key, Name: r.Name, Addr: r.Addr, Ready: r.Ready, Why: r.Why, Ending: ending,
			Failed: !ending && !r.Ready && (r.State == process.BackOff || r.Restarts > 0 || late),
		})
	}
	return out
}
