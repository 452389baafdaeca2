package gateway

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// change is a compiled HeaderChange; nil changes nothing.
type change struct {
	drop map[string]bool // removed, and set: what was there goes
	put  []Header        // canonical names
}

func compileChange(c HeaderChange) *change {
	if len(c.Remove)+len(c.Set)+len(c.Add) == 0 {
		return nil
	}
	out := &change{drop: map[string]bool{}}
	for _, k := range c.Remove {
		out.drop[textproto.CanonicalMIMEHeaderKey(k)] = true
	}
	for i, hs := range [][]Header{c.Set, c.Add} {
		for _, h := range hs {
			h.Name = textproto.CanonicalMIMEHeaderKey(h.Name)
			if i == 0 {
				out.drop[h.Name] = true
			}
			out.put = append(out.put, h)
		}
	}
	return out
}

// drops says whether a header that came is to go.
func (c *change) drops(k string) bool { return c != nil && c.drop[k] }

// apply changes h.
func (c *change) apply(h http.Header) {
	if c == nil {
		return
	}
	for k := range c.drop {
		delete(h, k)
	}
	for _, p := range c.put {
		h[p.Name] = append(h[p.Name], p.Value)
	}
}

// headers checks a HeaderChange. What frames a message and what the gateway
// says itself cannot be changed.
func (c *checker) headers(path string, hc HeaderChange) {
	name := func(p, k string) {
		key := textproto.CanonicalMIMEHeaderKey(k)
		switch {
		case !httpguts.ValidHeaderFieldName(k) || strings.Contains(k, "_"):
			c.add(p, "%q is not a header's name", k)
		case key == "Host":
			c.add(p, "Host is changed by rewrite.authority")
		case hopByHop(key) || ours(key) || key == "Content-Length" || key == "X-Request-Id" || key == "Expect":
			c.add(p, "%s cannot be changed: the gateway sets it", key)
		}
	}
	for i, k := range hc.Remove {
		name(fmt.Sprintf("%s.remove[%d]", path, i), k)
	}
	for what, hs := range map[string][]Header{"set": hc.Set, "add": hc.Add} {
		for i, h := range hs {
			p := fmt.Sprintf("%s.%s[%d]", path, what, i)
			name(p+".name", h.Name)
			if !httpguts.ValidHeaderFieldValue(h.Value) {
				c.add(p+".value", "%q holds a character that no header may carry", h.Value)
			}
		}
	}
}

// rewriteTarget changes the path of a target and leaves its query alone.
func (rw *Rewrite) rewriteTarget(target string) string {
	if rw == nil || (rw.Path == "" && rw.Prefix == "") || target == "*" {
		return target
	}
	path, query := target, ""
	if i := strings.IndexByte(target, '?'); i >= 0 {
		path, query = target[:i], target[i:]
	}
	if rw.Prefix == "" {
		return rw.Path + query
	}
	rest, ok := strings.CutPrefix(path, rw.Prefix)
	if !ok {
		return target
	}
	if path = rw.Path + rest; path == "" || path[0] != '/' {
		path = "/" + path
	}
	return path + query
}

func (c *checker) rewrite(path string, rw *Rewrite) {
	if rw == nil {
		return
	}
	if rw.Authority != "" && (!httpguts.ValidHostHeader(rw.Authority) || strings.ContainsAny(rw.Authority, "/? ")) {
		c.add(path+".authority", "%q is not a host", rw.Authority)
	}
	for what, s := range map[string]string{"path": rw.Path, "prefix": rw.Prefix} {
		if s != "" && (s[0] != '/' || strings.ContainsAny(s, "?# ") || !httpguts.ValidHeaderFieldValue(s)) {
			c.add(path+"."+what, "%q is not a path: it begins with / and has no ?, # or space", s)
		}
	}
}
