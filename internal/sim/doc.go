// Package sim is a world in which releases happen: one application, its
// cluster, its router, the figures of its versions, its people and its tools,
// under one clock that stands still until something happens. One number, the
// seed, gives all of it, so every failure can be had again.
//
// The product in it is the real one: engine.Engine with rollout.Decide. What is
// modelled is what it looks at and writes to.
//
//   - The cluster: versions with replicas that need time to be ready, flap,
//     crash and are repaired; autoscalers that move; Git that creates, deletes,
//     edits, scales and brings back.
//   - The router: an object with a version that fences writes, and behind it
//     one or several proxies that learn of a write each after a time of its
//     own. With a receipt (our gateway) or without (a mesh); counted or not.
//   - The figures: mostly verdicts by a script, some with the real judge.
//   - People who send commands, fitting and stale; hands and tools that write
//     the route; a document that is edited.
//   - Faults: reads that fail, are old or say half, each source by itself;
//     writes that are lost, late, doubled, done and denied, refused; a process
//     that dies at any call and remembers nothing; a former leader that goes on
//     beside its successor; a state that is deleted; a clock that jumps; hours
//     in which nothing runs.
//
// # What must hold
//
// The model knows what is true (who is ready, who is sent to, what is stored)
// and checks by that, at every write, every save and every pass, what
// docs/INVARIANTS.md lists; rollout.Check is asked as well. "As of the look
// that was used": nobody can know better than what the ports told in this pass,
// so the truth at the instant of that look is what counts. When faults and
// inputs end, every world has to come to rest, and to rest in the right place.
//
// # Replay
//
//	go test ./internal/sim -run 'TestWorlds$' -seed=4711        # one world, with its trace
//	go test ./internal/sim -run 'TestWorlds$' -worlds=100000    # or SERIN_WORLDS=100000
//	go test ./internal/sim -run TestMutants -v                  # mistakes, and the world that catches each
//	go test ./internal/sim -run TestStories -update             # whole stories as text
//
// A world from a program:
//
//	w := sim.New(seed, sim.Options{Trace: true})
//	if f := w.Run(); f != nil {
//		fmt.Println(f, w.Trace())
//	}
package sim
