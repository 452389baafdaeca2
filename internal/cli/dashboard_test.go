package cli

import (
	"strings"
	"testing"
)

// Never open by default: what reaches beyond this machine wants everything that
// makes it safe, and says what is missing.
func TestDashboardIsNeverOpenByMistake(t *testing.T) {
	for name, c := range map[string]struct {
		o    dashboardOptions
		says string
	}{
		"Loopback":            {dashboardOptions{listen: "127.0.0.1:9999"}, ""},
		"Loopback6":           {dashboardOptions{listen: "[::1]:0"}, ""},
		"Localhost":           {dashboardOptions{listen: "localhost:0", signIn: true}, ""},
		"Everywhere":          {dashboardOptions{listen: ":9999"}, "your rights"},
		"EverywhereToo":       {dashboardOptions{listen: "0.0.0.0:9999", cert: "c", key: "k", hosts: []string{"x"}}, "your rights"},
		"NoTLS":               {dashboardOptions{listen: "0.0.0.0:9999", signIn: true, hosts: []string{"x"}}, "--tls-cert"},
		"NoHost":              {dashboardOptions{listen: "0.0.0.0:9999", signIn: true, cert: "c", key: "k"}, "--host"},
		"Whole":               {dashboardOptions{listen: "0.0.0.0:9999", signIn: true, cert: "c", key: "k", hosts: []string{"serin.example"}}, ""},
		"HalfAPair":           {dashboardOptions{listen: "127.0.0.1:0", cert: "c"}, "go together"},
		"NoAddress":           {dashboardOptions{listen: "here"}, "want an address"},
		"NameThatIsNoAddress": {dashboardOptions{listen: "serin.example:80"}, "your rights"},
	} {
		err := c.o.check()
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v; want that it says %q", name, err, c.says)
		}
	}
}
