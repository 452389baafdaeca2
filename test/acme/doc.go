// Package acme holds the tests of certificates by ACME against a real authority:
// Pebble, Let's Encrypt's own small one, built as a module and run beside the
// daemon on loopback. It is a module of its own so that nobody else downloads
// an authority.
//
//	cd test/acme && go test ./...
package acme

import _ "github.com/letsencrypt/pebble/v2/core" // what the tests build; see TestMain
