package process

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
)

func names(rs []Replica) (s []string) {
	for _, r := range rs {
		s = append(s, r.Name)
	}
	return s
}

func pidsOf(rs []Replica) map[string]int {
	m := map[string]int{}
	for _, r := range rs {
		m[r.Name] = r.PID
	}
	return m
}

func TestReplicasServeOnTheirOwnPorts(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	if err := sup.Set("my-app/v2@3f9c", spec(mark, "-say=$(HOST)/$(PORT)/$(UNKNOWN)/$$(PORT)"), 3); err != nil {
		t.Fatal(err)
	}
	rs := until(t, sup, "my-app/v2@3f9c", "3 ready", ready(3))
	if want := []string{"my-app-v2-0", "my-app-v2-1", "my-app-v2-2"}; !slices.Equal(names(rs), want) {
		t.Errorf("names %q, want %q", names(rs), want)
	}
	ports := map[string]bool{}
	for _, r := range rs {
		var echo struct {
			PID  int
			Args []string
			Env  []string
		}
		if err := json.Unmarshal([]byte(mustGet(t, r, "/echo")), &echo); err != nil {
			t.Fatal(err)
		}
		port := lookupEnv(echo.Env, "PORT")
		if echo.PID != r.PID || r.Addr != "127.0.0.1:"+port || lookupEnv(echo.Env, "HOST") != "127.0.0.1" {
			t.Errorf("%s: listed as %d at %s, answers as %d with HOST=%s PORT=%s",
				r.Name, r.PID, r.Addr, echo.PID, lookupEnv(echo.Env, "HOST"), port)
		}
		if want := fmt.Sprintf("-say=127.0.0.1/%s/$(UNKNOWN)/$(PORT)", port); echo.Args[2] != want {
			t.Errorf("argument %q, want %q", echo.Args[2], want)
		}
		if lookupEnv(echo.Env, shimEnv) != "" {
			t.Error("the command sees the shim's mark: its own children would become shims")
		}
		if r.Why != "" || r.State != Ready || !r.Current || r.Restarts != 0 {
			t.Errorf("a ready replica is listed as %+v", r)
		}
		ports[port] = true
	}
	if len(ports) != 3 {
		t.Errorf("%d ports for 3 replicas", len(ports))
	}
}
