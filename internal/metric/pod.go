package metric

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Pod is a replica as the API server tells of it.
type Pod struct {
	Namespace string
	Name      string
	// Address of the pod; not valid = it has none yet.
	Address netip.Addr
	// Scrape says where the pod gives its figures; see [EndpointOf].
	Scrape Endpoint
	// Started is when the pod began (its status.startTime), not its containers:
	// a container that is started again resets its own counters, which the judge
	// sees by itself, and leaves those of the container beside it alone.
	// Zero = unknown.
	Started time.Time
	// Restarts of its containers, and those among them that were killed for
	// memory, both since the pod began.
	Restarts, OOMKills int
}

// Judged gives what the judge gets of a pod that gave no figures of its own.
func (p *Pod) Judged() analysis.Pod {
	return analysis.Pod{
		Name: p.Name, Started: p.Started, Has: analysis.HasRestarts,
		Restarts: float64(p.Restarts), OOMKills: float64(p.OOMKills),
	}
}

// Pods lists the pods of one revision of one application: those that run, ready
// or not, without those that have ended. It is read from a cache and is cheap.
// No pods is an empty list and no error.
type Pods interface {
	Pods(ctx context.Context, of rollout.Revision) ([]Pod, error)
}

// Both lists the pods of both versions, stable's first, and how many each has.
// An empty revision has none.
func Both(ctx context.Context, pods Pods, stable, canary rollout.Revision) (all []Pod, arms [2]int, err error) {
	for i, r := range [...]rollout.Revision{stable, canary} {
		if r == "" {
			continue
		}
		of, err := pods.Pods(ctx, r)
		if err != nil {
			return nil, arms, fmt.Errorf("listing the pods of %s: %w", r.Label(), err)
		}
		all, arms[i] = append(all, of...), len(of)
	}
	return all, arms, nil
}

// Endpoint is where a pod gives its figures in Prometheus' text format.
type Endpoint struct {
	Port uint16
	Path string
	// Off: the pod asks not to be scraped.
	Off bool
}

// IstioEndpoint is where a pod with Istio's sidecar gives the proxy's figures
// and the application's together. It answers without mutual TLS.
var IstioEndpoint = Endpoint{Port: 15020, Path: "/stats/prometheus"}

// The annotations of a pod that say where it is to be scraped. They are a
// convention of many Prometheus configurations; Istio's sidecar injection
// writes them too.
const (
	annotationScrape = "prometheus.io/scrape"
	annotationPort   = "prometheus.io/port"
	annotationPath   = "prometheus.io/path"
	annotationScheme = "prometheus.io/scheme"
)

const maxPath = 256

// EndpointOf reads a pod's annotations; without any it is [IstioEndpoint]. The
// error names the annotation that cannot be understood.
func EndpointOf(annotations map[string]string) (Endpoint, error) {
	if v, ok := annotations[annotationScrape]; ok {
		yes, err := strconv.ParseBool(strings.ToLower(v))
		if err != nil {
			return Endpoint{}, fmt.Errorf("annotation %s: %q is neither true nor false", annotationScrape, clip(v))
		}
		if !yes {
			return Endpoint{Off: true}, nil
		}
	}
	if v := annotations[annotationScheme]; v != "" && v != "http" {
		return Endpoint{}, fmt.Errorf("annotation %s: %q: pods are asked over plain http only", annotationScheme, clip(v))
	}
	port, hasPort := annotations[annotationPort]
	path, hasPath := annotations[annotationPath]
	if !hasPort && !hasPath {
		return IstioEndpoint, nil
	}
	e := Endpoint{Port: IstioEndpoint.Port, Path: cmp.Or(path, "/metrics")}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Endpoint{}, fmt.Errorf("annotation %s: %q is no port: 1 to 65535", annotationPort, clip(port))
		}
		e.Port = uint16(n)
	}
	if !strings.HasPrefix(e.Path, "/") || strings.HasPrefix(e.Path, "//") || len(e.Path) > maxPath || strings.ContainsFunc(e.Path, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
		return Endpoint{}, fmt.Errorf("annotation %s: %q: a path of at most %d characters that begins with one slash is meant", annotationPath, clip(e.Path), maxPath)
	}
	return e, nil
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
