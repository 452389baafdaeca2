// Package strictyaml reads YAML and JSON documents into Go values, strictly,
// and remembers where everything stood.
//
// # Nouns
//
// [Parse] splits a file into [Document]s. [Document.Decode] fills a Go value
// from a document by its json tags; what does not fit is a [Problem] with path,
// line, what is wrong and what would be right. All problems come at once.
//
// # What is stricter than usual, and why
//
//   - A field that the Go type does not have is a problem, with the nearest name
//     that it has: a misspelt limit that is silently dropped protects nobody.
//   - The same key twice is a problem: which one counts would depend on the reader.
//   - Words that YAML 1.1 reads as booleans (yes, on, off ...) and bare numbers
//     are refused where text is meant, because a cluster refuses them too.
//   - Merge keys (<<) are refused; aliases are followed.
//
// # Invariants
//
//   - Nothing panics and nothing grows without bound, whatever the bytes are:
//     [MaxBytes] per file, [MaxDocuments] per file, [MaxDepth] levels,
//     [MaxNodes] values with every alias written out (that bounds the "billion
//     laughs" family), [MaxProblems] problems.
//   - The zero value of what a problem concerns stays in the Go value.
package strictyaml

// Bounds on what is read.
const (
	MaxBytes     = 512 << 10
	MaxDocuments = 256
	MaxDepth     = 64
	MaxNodes     = 200_000
	MaxProblems  = 100
)
