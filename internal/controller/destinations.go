package controller

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// hostsOf lists the hosts that a VirtualService's routes send to. The
// object is as the API server gave it: anything may be of any type, or missing.
func hostsOf(vs map[string]any) []string {
	spec, _ := vs["spec"].(map[string]any)
	var out []string
	for _, kind := range []string{"http", "tls", "tcp"} {
		routes, _ := spec[kind].([]any)
		for _, r := range routes {
			route, _ := r.(map[string]any)
			parts, _ := route["route"].([]any)
			for _, p := range parts {
				part, _ := p.(map[string]any)
				d, _ := part["destination"].(map[string]any)
				host, _ := d["host"].(string)
				if host != "" {
					out = append(out, host)
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
