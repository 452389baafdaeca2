// Package daemon is the host on one machine: what `serin up -f DIR` runs. For
// the documents in a folder it is the kubelet (processes), the mesh (a gateway)
// and the metrics (its counters), and it passes over one rollout for each
// application with the same engine as the cluster's host.
//
// # Nouns
//
// The folder holds the user's documents; [Daemon] follows it. An app is one
// application in it: its versions, its route, its rollout, and the one loop
// that passes over them. The state folder holds everything that outlives the
// process: a state for each rollout, what the daemon itself remembers, what was
// deployed by command, and the observation records.
//
// # Life
//
//	New   checks, locks the state folder, takes the addresses; starts nothing
//	Run   remembered splits in force -> processes -> passes -> the gateway accepts
//	      ... folder, processes, gateway, commands and clocks wake the passes ...
//	end   passes stop -> the gateway ends what is in flight -> processes end
//	again the gateway answers what has begun -> one more pass -> exec, in the same
//	      process, with listeners, resting clients, replicas and counters
//
// # Invariants
//
//   - An address that is taken, or a document that is not understood at the first
//     start, is said before any process runs.
//   - A state that cannot be read is never taken for nothing: its application does
//     not run and is not answered, every view says why, and it goes on by itself
//     once it can be read. The other applications are served.
//   - Documents that are not understood change nothing: the last good ones stay
//     in force, across restarts too, and every view says so.
//   - The gateway accepts no request before the split that the saved state stands
//     for is in force and who gets the requests by it can answer.
//   - A version whose file was removed or edited runs on until its traffic was
//     seen gone. An application whose documents are gone, or have another name now,
//     runs on until another one answers in its place or nobody has asked it for
//     long; its state stays.
//   - A panic over one application or document ends neither the gateway nor the
//     others: what is in force stays, it is said, and tried again.
//   - A command is answered when what became of it is saved.
//   - Executed again, the daemon fails no request and touches no replica; a program
//     that cannot take over is found out before anything is given up.
//   - Killed at any moment, the daemon leaves no process, and started again it
//     goes on where it was: the same split, the same failed versions.
//
// # Example
//
//	d, err := daemon.New(daemon.Options{Dir: "deploy", StateDir: state})
//	if err != nil { ... }           // nothing was started
//	err = d.Run(ctx)                // until ctx ends, then in order
package daemon
