// Package remote shows the rollouts of a cluster to people, and takes their
// commands there, through the API server alone: nothing of ours has to be
// reachable. The command line and `serin dashboard` are built on it.
//
// # Nouns
//
// A [Client] has a person's own rights, as their kubeconfig gives them. It
// makes of a Rollout object the view that its controller had ([View]), and of a
// command a RolloutCommand object, and waits for the controller to take it.
//
// # What must stay true
//
//   - One call for each object that is shown: no discovery, no list where a
//     name is known.
//   - The author of a command is who the API server says it is, not who the
//     machine says.
//   - A command's id is its object's name, so that sending it twice does it once.
//   - Errors are sentences: what is wrong, and what would be right.
//
// # Example
//
//	c, err := remote.Connect(remote.Options{Namespace: "shop"})
//	v, err := c.Get(ctx, httpapi.Ref{Name: "my-app"})
package remote
