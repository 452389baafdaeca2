package rollout

import "testing"

func TestWhoMayApprove(t *testing.T) {
	for name, c := range map[string]struct {
		by      []string
		command Command
		want    bool
	}{
		"anybody":                     {nil, Command{By: "alice"}, true},
		"by name":                     {[]string{"alice"}, Command{By: "alice"}, true},
		"another":                     {[]string{"alice"}, Command{By: "bob"}, false},
		"by group":                    {[]string{"alice", "group:sre"}, Command{By: "bob", Groups: []string{"dev", "sre"}}, true},
		"another group":               {[]string{"group:sre"}, Command{By: "bob", Groups: []string{"dev"}}, false},
		"no groups":                   {[]string{"group:sre"}, Command{By: "bob"}, false},
		"a user called like a group":  {[]string{"group:sre"}, Command{By: "group:sre"}, false},
		"a group called like a user":  {[]string{"alice"}, Command{By: "bob", Groups: []string{"alice"}}, false},
		"a group called like a group": {[]string{"group:sre"}, Command{By: "bob", Groups: []string{"group:sre"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := mayApprove(c.by, c.command); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}
