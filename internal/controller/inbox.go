package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/apiserver"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/store/status"
)

// inbox is the engine's Inbox over the RolloutCommands of a namespace: a
// command is on the list until its status says that it was taken.
type inbox struct {
	client client.Client
	key    types.NamespacedName
	events func() []rollout.Event // of the decision that is being carried out
	now    func() time.Time
}

// What is left of commands that were taken: so many, for so long.
const (
	keepCommands = 20
	keepTaken    = time.Hour
)

func (b *inbox) list(ctx context.Context) ([]v1alpha1.RolloutCommand, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var all v1alpha1.RolloutCommandList
	if err := b.client.List(ctx, &all, client.InNamespace(b.key.Namespace)); err != nil {
		return nil, fmt.Errorf("listing the RolloutCommands of %s: %w", b.key.Namespace, err)
	}
	ours := slices.DeleteFunc(all.Items, func(c v1alpha1.RolloutCommand) bool { return c.Spec.Rollout != b.key.Name })
	slices.SortFunc(ours, func(a, b v1alpha1.RolloutCommand) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	return ours, nil
}

// Pending lists the commands that were not taken, oldest first.
func (b *inbox) Pending(ctx context.Context) ([]rollout.Command, error) {
	all, err := b.list(ctx)
	if err != nil {
		return nil, err
	}
	var out []rollout.Command
	for i := range all {
		if c := &all[i]; !c.Status.Taken && c.DeletionTimestamp == nil {
			out = append(out, commandOf(c))
		}
	}
	return out, nil
}

func commandOf(c *v1alpha1.RolloutCommand) rollout.Command {
	return rollout.Command{
		ID: c.Name, Verb: rollout.Verb(c.Spec.Verb), By: c.Spec.By, Reason: c.Spec.Reason,
		Revision: rollout.Revision(cmp.Or(c.Spec.Stable, c.Spec.Revision)), N: int(c.Spec.N), Full: c.Spec.Full, Override: c.Spec.Override,
		Groups: c.Spec.Groups, // the admission policy has seen that they are the author's
	}
}

// Done says on each command what became of it, and lets old ones go.
func (b *inbox) Done(ctx context.Context, ids []string) error {
	all, err := b.list(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for i := range all {
		c := &all[i]
		if c.Status.Taken || !slices.Contains(ids, c.Name) {
			continue
		}
		answer := httpapi.AnswerFor(commandOf(c), b.events())
		message := answer.Message
		if answer.Refused {
			message = "refused: " + message
		}
		if err := b.answer(ctx, c, message); err != nil {
			errs = append(errs, err)
		}
	}
	b.tidy(ctx, all)
	return errors.Join(errs...)
}

// refuse answers every command that waits: nothing can be decided about its
// Rollout, and who has sent it is told why at once.
func (b *inbox) refuse(ctx context.Context, why string) error {
	all, err := b.list(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for i := range all {
		if c := &all[i]; !c.Status.Taken && c.DeletionTimestamp == nil {
			errs = append(errs, b.answer(ctx, c, "refused: "+why))
		}
	}
	b.tidy(ctx, all)
	return errors.Join(errs...)
}

// orphanAfter is how long a command waits for a Rollout that is not there (yet).
const orphanAfter = 30 * time.Second

// orphans refuses the commands for a Rollout that does not exist. It says when
// to look again; 0 = no need.
func (b *inbox) orphans(ctx context.Context) time.Duration {
	all, err := b.list(ctx)
	if err != nil {
		return time.Second
	}
	again := time.Duration(0)
	for i := range all {
		c := &all[i]
		if c.Status.Taken || c.DeletionTimestamp != nil {
			continue
		}
		if wait := orphanAfter - b.now().Sub(c.CreationTimestamp.Time); wait > 0 {
			again = max(again, wait)
			continue
		}
		if err := b.answer(ctx, c, fmt.Sprintf("refused: there is no Rollout %s in %s", b.key.Name, b.key.Namespace)); err != nil {
			again = max(again, time.Second)
		}
	}
	return again
}

// answer says in a command's status what became of it.
func (b *inbox) answer(ctx context.Context, c *v1alpha1.RolloutCommand, message string) error {
	if len(message) > v1alpha1.MaxSentence {
		message = strings.ToValidUTF8(message[:v1alpha1.MaxSentence-3], "") + "..."
	}
	body, err := json.Marshal(map[string]any{"status": v1alpha1.RolloutCommandStatus{
		Taken: true, At: &v1alpha1.Time{Time: b.now().UTC()}, Message: message,
	}})
	if err != nil {
		return err
	}
	err = b.client.Status().Patch(ctx, c, client.RawPatch(types.MergePatchType, body), client.FieldOwner(status.Manager))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("answering command %s: %w", c.Name, apiserver.Kind(err))
	}
	return nil
}

// tidy deletes commands that were taken long ago; one that cannot be deleted
// is in nobody's way.
func (b *inbox) tidy(ctx context.Context, all []v1alpha1.RolloutCommand) {
	taken := slices.DeleteFunc(slices.Clone(all), func(c v1alpha1.RolloutCommand) bool { return !c.Status.Taken || c.DeletionTimestamp != nil })
	for i := range taken {
		c := &taken[i]
		old := c.Status.At != nil && b.now().Sub(c.Status.At.Time) > keepTaken
		if old || len(taken)-i > keepCommands {
			_ = b.client.Delete(ctx, c)
		}
	}
}
