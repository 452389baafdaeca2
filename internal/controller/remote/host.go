package remote

import (
	"context"
	"time"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// Host serves a cluster's rollouts to whoever may speak with the user's rights:
// it is an httpapi.Host whose views come from the API server's watch. What was
// before it ran is not known to it, so charts begin when it does.
type Host struct {
	*httpapi.Views
	c    *Client
	info httpapi.Info
}

// NewHost makes a host; it shows nothing until Run is called.
func NewHost(c *Client, info httpapi.Info) *Host {
	return &Host{Views: httpapi.NewViews(time.Now()), c: c, info: info}
}

// Run follows the rollouts in view until ctx ends or the cluster cannot be
// asked any more.
func (h *Host) Run(ctx context.Context) error {
	return h.c.Watch(ctx, httpapi.Ref{}, func(u httpapi.Update) error {
		if u.View == nil {
			h.Remove(u.Ref)
			return nil
		}
		h.Publish(*u.View)
		return nil
	})
}

// Command implements httpapi.Host.
func (h *Host) Command(ctx context.Context, ref httpapi.Ref, c rollout.Command) (httpapi.Answer, error) {
	return h.c.Command(ctx, ref, c)
}

// Deploy implements httpapi.Host: a cluster's versions are Deployments.
func (h *Host) Deploy(context.Context, httpapi.Ref, httpapi.Deploy) (httpapi.Deployed, error) {
	return httpapi.Deployed{}, &httpapi.Refusal{Why: "in a cluster a new version is a Deployment: apply it, and its release starts"}
}

// Logs implements httpapi.Host: a cluster's logs are kubectl's.
func (h *Host) Logs(context.Context, httpapi.Ref, httpapi.LogQuery, func(httpapi.LogLine) error) error {
	return &httpapi.Refusal{Why: "a cluster's logs are kubectl's: kubectl logs deployment/NAME --all-pods"}
}

// RecordPath implements httpapi.Host.
func (h *Host) RecordPath(context.Context, httpapi.Ref) (string, error) {
	return "", &httpapi.Refusal{Why: "the controller in a cluster keeps no record file"}
}

// Info implements httpapi.Host.
func (h *Host) Info() httpapi.Info { return h.info }

var _ httpapi.Host = (*Host)(nil)
