// Package versions keeps the versions of one application on one machine: what
// the documents ask for, what the core asks for on top of it, and what is left
// running of versions that the documents have let go of. It is the engine's
// Workloads port there; a Runner under it starts and stops the replicas.
//
// # Nouns
//
// An [Entry] is one revision of one Deployment: its label, the hash of its
// template, when it was first seen, and how a replica of it is run. The [Book]
// is the list of entries; it outlives the process, because a revision whose
// file was removed or edited has nobody else who remembers how to run it.
//
// # States of an entry
//
//	absent -> declared -> gone -> absent       the file appears, goes (or is edited)
//	running <-> zero                           the core retires it, or wants it back
//
// An edited Deployment is two entries with one name: the old one is gone and
// goes on, the new one is declared.
//
// # Invariants
//
//   - A revision runs max(what its author asks for, what the core asked for last)
//     replicas, or none after the core retired it. What the core asked for stays
//     until the author changes his own count.
//   - A gone entry is stopped only when the core retires it or the host says
//     that its traffic was seen gone. While it runs, it is started again when it
//     crashes: under a rollout, only one that is not back after a while is lost.
//   - Since of a later entry is later, also across restarts and clocks set back.
//   - After a restart, how many replicas of a revision are ready is unknown until
//     one of them is ready or has shown that it cannot start.
//
// # Example
//
//	app := versions.Open("my-app", book, versions.Options{Runner: procs, Save: save})
//	app.Declare(time.Now(), []versions.Wanted{{Label: "v1", Hash: "6f1c", Name: "my-app-v1", Replicas: 3, Run: spec}})
//	w, err := app.Observe(ctx)
package versions
