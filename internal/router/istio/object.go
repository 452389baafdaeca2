package istio

import (
	"encoding/json"
	"math"
	"strings"
)

// This file reads objects as they come from the API server: maps, lists,
// strings, int64 or float64, bool. Anything may be of any type, or missing.

func at(o any, path ...string) any {
	for _, k := range path {
		m, ok := o.(map[string]any)
		if !ok {
			return nil
		}
		o = m[k]
	}
	return o
}

func text(o any, path ...string) string {
	s, _ := at(o, path...).(string)
	return s
}

func list(o any, path ...string) []any {
	l, _ := at(o, path...).([]any)
	return l
}

func texts(o any, path ...string) []string {
	var out []string
	for _, v := range list(o, path...) {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func textMap(o any, path ...string) map[string]string {
	m, ok := at(o, path...).(map[string]any)
	if !ok {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if s, ok := v.(string); ok {
			out[k] = s
		}
	}
	return out
}

// maxWeight is the largest number that Istio's API and the proxies take.
const maxWeight = math.MaxInt32

// number reads a weight; what is no whole number from 0 to maxWeight is not known.
func number(o any, path ...string) (n int64, known bool) {
	switch v := at(o, path...).(type) {
	case int64:
		n = v
	case int:
		n = int64(v)
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > maxWeight {
			return 0, false
		}
		n = int64(v)
	default:
		return 0, false
	}
	if n < 0 || n > maxWeight {
		return 0, false
	}
	return n, true
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = clone(e)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = clone(e)
		}
		return l
	}
	return v
}

// same compares as JSON, so that 1 and 1.0 are the same.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// canonical gives a host in one form. Istio reads a name without a dot as a
// Service of the namespace of the object that it stands in. The cluster's
// domain is left out, whatever it is: "my-app.shop.svc".
func canonical(host, namespace string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	switch parts := strings.Split(host, "."); {
	case host == "" || host == "*":
		return host
	case len(parts) == 1:
		return host + "." + namespace + ".svc"
	case len(parts) > 3 && parts[2] == "svc":
		return strings.Join(parts[:3], ".")
	}
	return host
}

// serviceOf is the Service that a canonical host names.
func serviceOf(host string) (name, namespace string, ok bool) {
	parts := strings.Split(host, ".")
	if len(parts) != 3 || parts[2] != "svc" {
		return "", "", false
	}
	return parts[0], parts[1], true
}
