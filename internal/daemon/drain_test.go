package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/workload/process"
)

// A replica's streams have the gateway's time to end in, not a shorter one of
// the supervisor's.
func TestAReplicaIsDrainedForAsLongAsTheGatewayDoes(t *testing.T) {
	t.Parallel()
	for why, c := range map[string]struct {
		o    Options
		want time.Duration
	}{
		"five minutes for streams, and the time to end them": {Options{}, 5*time.Minute + 30*time.Second},
		"as it is set": {Options{Gateway: gateway.Options{DrainTimeout: time.Minute, StreamDrainTimeout: time.Hour}}, time.Hour + time.Minute},
		"streams that have less time than requests": {Options{Gateway: gateway.Options{DrainTimeout: time.Minute, StreamDrainTimeout: time.Second}}, 2 * time.Minute},
		"a time of the supervisor's own":            {Options{Process: process.Options{DrainTimeout: time.Second}}, time.Second},
	} {
		if got := c.o.process().DrainTimeout; got != c.want {
			t.Errorf("%s: %v, want %v", why, got, c.want)
		}
	}
}

// Whoever's time is over first, it is said that requests were still there.
func TestAReplicaThatIsStoppedWithRequestsInFlightIsSaid(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*Options){
		"the gateway's":    func(o *Options) { o.Gateway.DrainTimeout = 100 * time.Millisecond },
		"the supervisor's": func(o *Options) { o.Process.DrainTimeout = 100 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := article(holding + unjudged)
			files["01-deployment-v1.yaml"] = deploymentOf("v1", 1)
			w := newWorld(t, files)
			w.edit = edit
			w.up()
			w.open()
			w.until("my-app", "v1 is adopted", restsOn("v1"))
			flag := filepath.Join(t.TempDir(), "go")
			got := slow(t, w, flag, 0)
			w.write("01-deployment-v1.yaml", deploymentOf("v1", 0))
			w.eventually("it is said", func() bool {
				return strings.Contains(w.log.String(), "a replica is stopped with requests in flight")
			})
			if err := os.WriteFile(flag, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			<-got
		})
	}
}
