package cluster

import "github.com/serin-dev/serin/test/cluster/lab"

type (
	behaviour = lab.Behaviour
	call      = lab.Call
)
