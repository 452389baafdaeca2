package gateway

import (
	"net/http/httptest"
	"sync"
	"testing"
)

// Metrics and statistics are read while tables are swapped; the race detector
// is the judge of this test.
func TestFiguresWhileTablesAreSwapped(t *testing.T) {
	g := New(Options{Seed: 1})
	defer g.Close()
	table := func(n int64) Table {
		return Table{Number: n, Services: []Service{{
			Name: "shop", Hosts: []string{"shop"},
			Versions: []Version{{Name: "v1", Endpoints: []Endpoint{{Replica: "a", Address: "127.0.0.1:1"}}}},
			Rules:    []Rule{{Split: []Destination{{Version: "v1", Weight: 10000}}}},
		}}}
	}
	if err := g.Swap(table(1)); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for n := range int64(200) {
			if err := g.Swap(table(n + 2)); err != nil {
				t.Error(err)
			}
		}
	})
	for range 50 {
		g.Stats()
		w := httptest.NewRecorder()
		g.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if w.Code != 200 {
			t.Errorf("status %d", w.Code)
		}
	}
	all.Wait()
}
