// Package manifest reads Kubernetes documents and says what one machine runs
// and routes because of them. It is pure: bytes in, values out.
//
// # Nouns
//
// A [Set] is everything that a folder of files asks for. It has [App]s: each is
// one Rollout with the [Service] that its users call, the [Version]s that run,
// the [Route] that splits the traffic over them, and the subsets by which the
// route names versions. A folder without a Rollout for a VirtualService gets the
// default one, and the App says so.
//
// # What comes out besides
//
//   - A [Problem] means that something was not understood or contradicts itself.
//     With problems there is no Set: the caller keeps the one before, so a file
//     that is half saved changes nothing.
//   - A [Finding] means that the Set is good and a rollout would go wrong: no
//     traffic may move (Refuse), or people should know (Warn).
//   - A [Note] lists what is harmless here and has no effect on one machine.
//
// # Invariants
//
//   - Every field of every object is understood, noted, or refused by name; the
//     table in capabilities.go says which. Nothing is dropped in silence.
//   - Equal files give equal results, whatever order they come in.
//   - Nothing panics; what is read is bounded: [MaxFiles] files, [MaxTotal] bytes
//     together, [MaxObjects] objects, and strictyaml's bounds within each file.
//
// # Revisions
//
// A version's hash is taken over the raw pod template, as canonical JSON with
// sorted keys and without nulls, less what says nothing about what runs
// ([IgnoredInHash]). Hashes are made by [HashVersion]; another way of hashing
// gets another number, which a state has to keep beside the hash.
//
// # Example
//
//	set, problems := manifest.Load(files, manifest.Options{Run: map[string][]string{
//		"my-registry/my-app:v1": {"./bin/my-app", "-version", "v1"},
//	}})
package manifest

// Bounds on what is read.
const (
	MaxFiles   = 200
	MaxTotal   = 4 << 20
	MaxObjects = 500
)
