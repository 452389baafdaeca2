package main

import (
	"github.com/serin-dev/serin/internal/cli"
	"github.com/serin-dev/serin/internal/controller/access"
)

// signIn lets people of a cluster look in a browser, each with their own rights.
func signIn(o cli.ClusterOptions) (cli.SignIn, error) {
	return access.Connect(o.Kubeconfig, o.Context, access.Options{})
}
