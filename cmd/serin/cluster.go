package main

import (
	"context"

	"github.com/serin-dev/serin/internal/cli"
	"github.com/serin-dev/serin/internal/controller/remote"
)

// cluster answers the verbs from a cluster's API server, with the rights of the
// user's own kubeconfig.
func cluster(_ context.Context, o cli.ClusterOptions) (cli.Host, error) {
	return remote.Connect(remote.Options{
		Kubeconfig: o.Kubeconfig, Context: o.Context, Namespace: o.Namespace, All: o.All, UserAgent: "serin/" + versionOf(),
	})
}
