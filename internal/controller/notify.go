package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/telemetry"
)

const (
	reporter    = "serin.dev/controller"
	maxNote     = 1024 // bytes, the API's own bound
	evViolation = "InvariantViolated"
)

// Tell writes decisions to the log, counts them, and makes one Event for each.
// An Event's name holds the decision's number, so that telling it again changes
// nothing; and since the reason of two decisions may be the same, none of them is
// folded into another. Where we may not make events, decisions are told without:
// it would be the same the next time, and the finding says so.
func (a *app) Tell(ctx context.Context, events []rollout.Event) error {
	for _, e := range events {
		if a.counts(e) {
			a.log.Info(e.Why, "decision", e.N, "what", string(e.What), "by", e.By, "from", e.From, "to", e.To)
		}
	}
	for _, e := range events {
		kind := corev1.EventTypeNormal
		switch e.What {
		case rollout.EvRolledBack, rollout.EvAborted, rollout.EvStalled, rollout.EvStableLost, rollout.EvDriftFight, rollout.EvRefused, rollout.EvUndoAbandoned:
			kind = corev1.EventTypeWarning
		}
		note := e.Why
		if e.From != "" || e.To != "" {
			note = strings.TrimSpace(e.From+" -> "+e.To) + ": " + note
		}
		err := a.event(ctx, fmt.Sprintf("%d", e.N), kind, string(e.What), note, e.At)
		denied := apierrors.IsForbidden(err)
		a.tellsOf(denied, err)
		if err != nil && !denied {
			return fmt.Errorf("making the event of decision %d: %w", e.N, err)
		}
	}
	return nil
}

// tellsOf remembers whether events may be made; what has changed about that is
// found by a preflight, which is asked for.
func (a *app) tellsOf(denied bool, err error) {
	a.mu.Lock()
	was := a.untold
	a.untold = nil
	if denied {
		a.untold = err
	}
	a.mu.Unlock()
	if denied != (was != nil) {
		a.wake()
	}
	if denied && was == nil {
		a.log.Warn("decisions are not told as events", "err", err)
	}
}

// untoldFindings says that decisions are not told as events, unless the rights
// that could be listed say so already.
func (a *app) untoldFindings(lacks func(right) bool) []rollout.Finding {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.untold == nil || lacks(createEvents) {
		return nil
	}
	return []rollout.Finding{{
		Level: rollout.Warn, What: "Nobody is told of decisions by events, which were denied: " + a.untold.Error() + ".",
		Remedy: "let Serin's service account create events (events.k8s.io) in this namespace; the decisions are in the status",
	}}
}

// counts adds a decision up unless it was told before: where one of several
// cannot be told, all of them are told again.
func (a *app) counts(e rollout.Event) (news bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.At.Before(a.newest.At) || e.At.Equal(a.newest.At) && e.N <= a.newest.N {
		return false
	}
	a.newest = e
	a.decided[decisionKey{string(e.What), telemetry.Author(e.By)}]++
	return true
}

var instance = func() string { h, _ := os.Hostname(); return h }()

// event creates an Event unless it is there.
func (a *app) event(ctx context.Context, id, kind, reason, note string, at time.Time) error {
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-3], "") + "..."
	}
	name := a.key.Name
	if len(name) > 200 {
		name = name[:200]
	}
	e := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.key.Namespace, Name: fmt.Sprintf("%s.%s.%s", name, shortOf(string(a.uid)), id)},
		EventTime:  metav1.NewMicroTime(at), ReportingController: reporter, ReportingInstance: instance,
		Action: "Decide", Reason: reason, Note: note, Type: kind,
		Regarding: corev1.ObjectReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.Kind, Namespace: a.key.Namespace, Name: a.key.Name, UID: a.uid,
		},
	}
	if routes := a.routes(); len(routes) > 0 {
		e.Related = &corev1.ObjectReference{
			APIVersion: routeKind.GroupVersion().String(), Kind: routeKind.Kind, Namespace: routes[0].Namespace, Name: routes[0].Name,
		}
	}
	err := a.c.direct.Create(ctx, e)
	switch {
	case apierrors.IsAlreadyExists(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), apierrors.IsNotFound(err):
		return nil // told before; or nobody is left who could be told
	}
	return err
}

func shortOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

// sayViolation says a refused decision in the status, as an event of its own,
// and counts it: it is a mistake in Serin, and somebody should hear of it.
func (a *app) sayViolation(err error, res *engine.Result) {
	var v *rollout.Violation
	if !errors.As(err, &v) {
		return
	}
	note := fmt.Sprintf("a decision was refused because it breaks invariant %s (%s). The last safe split stays. Please report it.", v.Invariant, v.Why)
	res.Decision.Status.Stalled, res.Decision.Status.Message = note, note
	a.c.meter.violated(v.Invariant)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := a.event(ctx, fmt.Sprintf("%d.%s", res.State.N, strings.ToLower(v.Invariant)), corev1.EventTypeWarning, evViolation, note, res.At); err != nil {
		a.log.Warn("telling of a refused decision", "err", err)
	}
	a.log.Error("a decision was refused", "invariant", v.Invariant, "why", v.Why)
}
