package daemon

import (
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/manifest"
)

// lint and the gateway agree on what a document may match: what the gateway
// would refuse is not found out by a route that is never in force.
func TestMatchesThatTheGatewayRefusesAreRefusedInDocuments(t *testing.T) {
	t.Parallel()
	for why, c := range map[string]struct{ name, value string }{
		"ordinary":          {"x-user", "a"},
		"of any token":      {"x.user!", "a"},
		"with _":            {"x_user", "a"},
		"the longest":       {"x-user", strings.Repeat("a", 4096)},
		"one byte too long": {"x-user", strings.Repeat("a", 4097)},
	} {
		doc := strings.Replace(asks, "withoutHeaders: {x-first: {exact: \"1\"}}", "headers: {"+c.name+": {exact: "+c.value+"}}", 1)
		_, problems := manifest.Load(raw(asking(doc, destinationRule, "")), manifest.Options{})
		match := gateway.Match{Headers: []gateway.NamedMatch{{Name: c.name, Value: gateway.StringMatch{Kind: gateway.Exact, Value: c.value}}}}
		table := gateway.Table{Services: []gateway.Service{{
			Name: "s", Default: true, Versions: []gateway.Version{{Name: "v1"}},
			Rules: []gateway.Rule{{Match: []gateway.Match{match}, Split: []gateway.Destination{{Version: "v1", Weight: gateway.FullWeight}}}},
		}}}
		if refused := table.Validate() != nil; (len(problems) > 0) != refused {
			t.Errorf("%s: the gateway refuses it: %t; documents: %v", why, refused, problems)
		}
	}
}
