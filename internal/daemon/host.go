package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/workload/process"
)

// commandPatience bounds how long a command waits to be recorded.
const commandPatience = 10 * time.Second

// find gives an application, or the error that says which there are.
func (d *Daemon) find(ctx context.Context, ref httpapi.Ref) (*app, error) {
	if a := d.app(nameOf(ref)); a != nil {
		return a, nil
	}
	_, err := d.Get(ctx, ref)
	if err == nil {
		err = httpapi.ErrNotFound
	}
	return nil, err
}

// Get gives one rollout; "default" and no namespace are the same.
func (d *Daemon) Get(ctx context.Context, ref httpapi.Ref) (httpapi.RolloutView, error) {
	if ref.Namespace == defaultNamespace {
		ref.Namespace = ""
	}
	return d.Views.Get(ctx, ref)
}

// Command hands a command to the next pass and waits until what became of it is
// saved.
func (d *Daemon) Command(ctx context.Context, ref httpapi.Ref, c rollout.Command) (httpapi.Answer, error) {
	a, err := d.find(ctx, ref)
	if err != nil {
		return httpapi.Answer{}, err
	}
	if err := a.refused(c.Verb); err != nil {
		return httpapi.Answer{}, err
	}
	c.ID = cmp.Or(c.ID, rand.Text())
	ctx, cancel := context.WithTimeout(ctx, commandPatience)
	defer cancel()
	if known, done := a.ask(c.ID); done {
		return known, nil
	}
	a.inbox.add(c)
	a.wake()
	for {
		a.mu.Lock()
		round := a.rounds
		a.mu.Unlock()
		if known, done := a.answer(c.ID); done {
			return known, nil
		}
		select {
		case <-round:
			continue
		case <-a.living.Done():
			if err = fmt.Errorf("%s is ended", a.name); d.running.Err() != nil {
				err = errors.New("serin is ending")
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
		break
	}
	a.inbox.take(c.ID)
	if known, done := a.answer(c.ID); done {
		return known, nil
	}
	a.mu.Lock()
	s := a.seen
	delete(a.replies, c.ID)
	a.mu.Unlock()
	switch {
	case s != nil && s.err != nil:
		return httpapi.Answer{}, fmt.Errorf("%s was not done: what became of it could not be recorded: %w", c.Verb, s.err)
	case s != nil && s.result.State.Stable.Revision == "":
		return httpapi.Answer{}, &httpapi.Refusal{Why: fmt.Sprintf("%s was not done: no version is known to be the stable one yet. %s", c.Verb, s.result.Decision.Status.Message)}
	}
	return httpapi.Answer{}, fmt.Errorf("%s was not done: %w", c.Verb, err)
}

// ask notes that a command is on its way, unless it has been taken before.
func (a *app) ask(id string) (httpapi.Answer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, here := a.replies[id]
	switch {
	case known != nil:
		return *known, true
	case !here && a.seen != nil && slices.Contains(a.seen.result.State.Taken, id):
		return httpapi.Answer{ID: id, Message: "This command was taken before; `serin history` shows what became of it."}, true
	}
	a.replies[id] = nil
	return httpapi.Answer{}, false
}

// answer is what became of a command.
func (a *app) answer(id string) (httpapi.Answer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known := a.replies[id]; known != nil {
		return *known, true
	}
	return httpapi.Answer{}, false
}

// keepAnswers notes what became of the commands that a pass took. The caller
// holds mu.
func (a *app) keepAnswers(res engine.Result) {
	for _, c := range res.Seen.Commands {
		if slices.Contains(res.Before.Taken, c.ID) || !slices.Contains(res.State.Taken, c.ID) {
			continue
		}
		if len(a.replies) >= 200 { // State.Taken remembers the ids
			maps.DeleteFunc(a.replies, func(_ string, known *httpapi.Answer) bool { return known != nil })
		}
		known := httpapi.AnswerFor(c, res.Decision.Events)
		if err := a.seen.err; err != nil { // on the way down it is done although it could not be recorded
			known.Message += " There was trouble with it: " + oneLine(err.Error())
		}
		a.replies[c.ID] = &known
	}
}

// owns remembers which version a replica belongs to, for its log.
func (a *app) owns(replica string, rev rollout.Revision) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.replicas) > 10000 {
		clear(a.replicas)
	}
	a.replicas[replica] = rev
}

// Logs gives lines of the replicas' output, oldest first.
func (d *Daemon) Logs(ctx context.Context, ref httpapi.Ref, q httpapi.LogQuery, emit func(httpapi.LogLine) error) error {
	a, err := d.find(ctx, ref)
	if err != nil {
		return err
	}
	d.refresh() // knows every replica's version
	give := func(l process.Line) error {
		a.mu.Lock()
		rev, ours := a.replicas[l.Replica]
		a.mu.Unlock()
		if !ours || q.Version != "" && rev.Label() != q.Version || q.Replica != "" && l.Replica != q.Replica {
			return nil
		}
		stream := "stdout"
		if l.Stream == process.Stderr {
			stream = "stderr"
		}
		return emit(httpapi.LogLine{
			Time: l.Time, Version: rev.Label(), Replica: l.Replica, Stream: stream, Text: l.Text, Cut: l.Cut, Lost: l.Lost,
		})
	}
	if err := a.knows(q); err != nil {
		return err
	}
	past := d.sup.Logs("", -1)
	kept, last := tails(past, q.Tail)
	if !q.Follow {
		for _, l := range past {
			if kept[l.Seq] {
				if err := give(l); err != nil {
					return err
				}
			}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.running, cancel)()
	for l := range d.sup.Follow(ctx, "", -1) {
		if l.Seq <= last && !kept[l.Seq] {
			continue
		}
		if err := give(l); err != nil {
			return err
		}
	}
	return nil
}

// tails picks the last n lines of each replica, all for n <= 0; last is the
// newest line of all.
func tails(lines []process.Line, n int) (kept map[uint64]bool, last uint64) {
	kept = map[uint64]bool{}
	count := map[string]int{}
	for _, l := range slices.Backward(lines) {
		last = max(last, l.Seq)
		if count[l.Replica]++; n <= 0 || count[l.Replica] <= n {
			kept[l.Seq] = true
		}
	}
	return kept, last
}

// knows refuses a version or replica that never was, by saying which there are.
func (a *app) knows(q httpapi.LogQuery) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	labels, names := map[string]bool{}, map[string]bool{}
	for name, rev := range a.replicas {
		names[name], labels[rev.Label()] = true, true
	}
	for _, w := range a.plan.wanted {
		labels[w.Label] = true
	}
	switch {
	case q.Version != "" && !labels[q.Version]:
		return &httpapi.Invalid{Problems: []string{fmt.Sprintf("version: %s has no version %s; there are %s", a.name, q.Version, words(labels))}}
	case q.Replica != "" && !names[q.Replica]:
		return &httpapi.Invalid{Problems: []string{fmt.Sprintf("replica: %s has no replica %s; there are %s", a.name, q.Replica, words(names))}}
	}
	return nil
}

func words(set map[string]bool) string {
	var out []string
	for s := range set {
		out = append(out, s)
	}
	slices.Sort(out)
	if len(out) == 0 {
		return "none"
	}
	if len(out) > 10 {
		out = append(out[:10], "...")
	}
	s := out[0]
	for _, w := range out[1:] {
		s += ", " + w
	}
	return s
}

// RecordPath is the file of the observation record that is being written.
func (d *Daemon) RecordPath(ctx context.Context, ref httpapi.Ref) (string, error) {
	a, err := d.find(ctx, ref)
	if err != nil {
		return "", err
	}
	return a.recordAt, nil
}
