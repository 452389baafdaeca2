// Package access lets people of a cluster look at its rollouts in a browser,
// each with their own rights.
//
// Nouns: a person signs in with a bearer token (of a service account, or of
// OIDC, whatever the API server takes). The API server says whose it is
// (TokenReview), what they may see and send (SubjectAccessReview), and takes
// their commands with that token, so that the author of a RolloutCommand is who
// the API server says, and admission policies apply.
//
// What must stay true:
//
//   - The dashboard's own service account reads rollouts and asks those
//     reviews. It may write nothing, so that whoever takes it over can change
//     nothing.
//   - An answer is remembered for seconds, by the token's hash, and for no more
//     than some thousand people. No answer means no.
//   - A token is in no log and no error.
//
// Example:
//
//	g, err := access.New(cfg, access.Options{})
//	err = httpapi.NewServer(g.Host(relay)).ServeWeb(ctx, l, httpapi.WebOptions{Authorizer: g, Secure: true})
package access
