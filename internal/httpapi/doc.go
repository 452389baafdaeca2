// Package httpapi is the one read model of Serin, and the commands, over HTTP:
// JSON and an event stream. Both hosts serve it; the command line, the
// terminal view and the dashboard read nothing else.
//
// The read model is [RolloutView]: an explicit type, never a stored struct, so
// that what is shown is what was meant to be shown.
package httpapi
