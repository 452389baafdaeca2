package controller

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// destination is one that a VirtualService names.
type destination struct{ host, subset string }

// destinationsOf lists the destinations of a VirtualService's routes. The
// object is as the API server gave it: anything may be of any type, or missing.
func destinationsOf(vs map[string]any) []destination {
	spec, _ := vs["spec"].(map[string]any)
	var out []destination
	for _, kind := range []string{"http", "tls", "tcp"} {
		routes, _ := spec[kind].([]any)
		for _, r := range routes {
			route, _ := r.(map[string]any)
			parts, _ := route["route"].([]any)
			for _, p := range parts {
				part, _ := p.(map[string]any)
				d, _ := part["destination"].(map[string]any)
				host, _ := d["host"].(string)
				subset, _ := d["subset"].(string)
				if host != "" {
					out = append(out, destination{host, subset})
				}
			}
		}
	}
	return out
}

// serviceOf is the Service that a host means; a short name is one in the
// route's own namespace. Anything else that has dots is a name outside.
func serviceOf(host, namespace string) (types.NamespacedName, bool) {
	part := strings.Split(strings.TrimSuffix(host, "."), ".")
	switch {
	case len(part) == 1 && part[0] != "" && part[0] != "*":
		return types.NamespacedName{Namespace: namespace, Name: part[0]}, true
	case len(part) >= 3 && part[2] == "svc":
		return types.NamespacedName{Namespace: part[1], Name: part[0]}, true
	}
	return types.NamespacedName{}, false
}
