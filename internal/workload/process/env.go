package process

import (
	"slices"
	"strings"
)

// expand replaces "$(NAME)" by what lookup knows and "$$" by "$". What lookup
// does not know, and a "$" before anything else, stays as it is written: the
// rule of a Kubernetes container, so that one document means the same twice.
func expand(s string, lookup map[string]string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			rest = rest[1:]
		case strings.HasPrefix(rest, "("):
			name, after, closed := strings.Cut(rest[1:], ")")
			value, known := lookup[name]
			if closed && known {
				b.WriteString(value)
				rest = after
				break
			}
			b.WriteByte('$') // and the rest is read as text, from its parenthesis on
		default:
			b.WriteByte('$')
		}
		s = rest
	}
}

// command returns the arguments and the environment of one run: base (the
// supervisor's own), then PORT and HOST, then the Spec's variables, each name once.
func (s Spec) command(base []string, host, port string) (args, env []string) {
	values := map[string]string{}
	var order []string
	set := func(name, value string) {
		if _, again := values[name]; !again {
			order = append(order, name)
		}
		values[name] = value
	}
	set(s.PortEnv, port)
	set("HOST", host)
	for _, e := range s.Env {
		if e.Name != s.PortEnv && e.Name != "HOST" {
			set(e.Name, expand(e.Value, values))
		}
	}
	for _, kv := range base {
		name, _, _ := strings.Cut(kv, "=")
		if _, ours := values[name]; !ours {
			env = append(env, kv)
		}
	}
	for _, name := range order {
		env = append(env, name+"="+values[name])
	}
	for _, a := range s.Command {
		args = append(args, expand(a, values))
	}
	return args, env
}

// lookupEnv returns the value of name in an environment, "" where it is missing.
func lookupEnv(env []string, name string) string {
	for _, kv := range slices.Backward(env) {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}
