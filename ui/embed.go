// Package ui holds the dashboard as it was built from the sources beside it:
// static files, no more. `make ui` builds them; a program that only serves them
// needs no Node.
//
// The files are index.html, app.js, app.css and what these name. frozen.html is
// the page of an export: it works from a file, with the same script and style
// written into it.
package ui

import (
	"embed"
	"io/fs"
)

//go:embed dist
var dist embed.FS

// Files are the built files, from their own root.
func Files() fs.FS {
	f, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the folder is embedded: it is there
	}
	return f
}
