// Package process runs every replica of a version as a supervised process of
// this machine. It knows keys, commands and numbers of replicas; it knows no
// rollouts, no versions and no routes.
//
// # Nouns
//
// A set is what was asked for under one key: a Spec and a number of replicas.
// A replica is one place in a set; it keeps its name, its log and its counters
// over restarts. A run is one life of the replica's process. A run's tree is
// that process with everything it started, daemonised descendants included.
//
// # States of a replica
//
//	Starting -> Ready <-> Unready            the process runs
//	    \__________\________\--> BackOff -> Starting     the process ended by itself
//	any of them -> Draining -> Stopping -> (gone)        the replica is no longer wanted
//
// # Who holds whom
//
//	daemon --pipe--> shim --child--> the command --> whatever it starts
//
// The shim is this same binary, started again (see RunShimIfAsked), one for
// every run. It is the subreaper of the run's tree, so orphans come back to it,
// and it kills the tree when the pipe closes, which the kernel does for a
// daemon that died of whatever cause. It has a session of its own: a Ctrl-C in
// the daemon's terminal reaches neither it nor the command.
//
// # Invariants
//
//   - A replica is reported as not Ready before it is drained, and it is drained
//     before it gets SIGTERM.
//   - A replica whose run ended has no process left: the next run starts, and the
//     replica is gone, only after the whole tree is.
//   - A changed Spec never lowers the number of ready replicas by itself: old ones
//     go as new ones become ready.
//   - Neither a silent nor a flooding process can block the supervisor, and no
//     reader of a log can block a process.
//   - CPUSeconds never falls while a replica lives.
//   - Nothing is inherited by a command but standard input (empty), output and error.
//
// On macOS there is no subreaper: a descendant that leaves both its parent and
// its session escapes; everything else holds.
//
// # Example
//
//	func main() {
//		process.RunShimIfAsked()
//		sup := process.New(process.Options{Dir: "."})
//		defer sup.Close(context.Background())
//		err := sup.Set("my-app/v2@3f9c", process.Spec{
//			Command: []string{"./bin/my-app", "-listen", "$(HOST):$(PORT)"},
//			Ready:   process.Probe{HTTP: &process.HTTPGet{Path: "/healthz"}},
//		}, 3)
//		...
//		for range sup.Changed() {
//			for _, r := range sup.List() { ... r.Addr, r.Ready, r.Why ... }
//		}
//	}
package process
