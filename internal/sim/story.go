package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// Tell plays a script and prints the whole story: what people and tools did,
// what was decided and why, what was written, what was in force. Nothing in it
// is left to chance. The error is a line that cannot be understood, an
// expectation that was not met, or an invariant that did not hold; the story so
// far comes with it.
//
// A script is a line per step; # begins a comment. Times are since the
// beginning. First what there is:
//
//	router gateway                  # says itself what is in force; or: router istio proxies=3 lag=8s
//	document steps=5,25,50,100 hold=30s bake=1m ...
//	version v1 replicas=3           # the stable one
//
// then what happens:
//
//	at 10s deploy v2 replicas=2 bad sure=20s
//	at 40s anna: promote --full because it was tested by hand
//	at 50s argocd: route v2=0 without note
//	at 60s expect Baking v2 100
//	run 10m                         # let it go on until then
//	rest                            # let it come to rest, and check that it has
//	expect Idle v2
func Tell(script string) (string, error) {
	w := blank(1, Options{Trace: true})
	w.told = true
	w.opts.Name = "story"
	s := &story{w: w}
	s.defaults()
	for i, line := range strings.Split(script, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := s.line(words); err != nil {
			return w.Trace(), fmt.Errorf("line %d: %s: %w", i+1, strings.Join(words, " "), err)
		}
		if w.fail != nil {
			return w.Trace(), fmt.Errorf("line %d: %s: %w", i+1, strings.Join(words, " "), w.fail)
		}
	}
	return w.Trace(), nil
}

type story struct {
	w     *World
	begun bool
}

func (s *story) defaults() {
	w := s.w
	w.spec = rollout.Spec{
		Revert:   rollout.RevertFast,
		Capacity: rollout.Capacity{HPA: rollout.HoldMinimum, Deadline: 10 * time.Minute},
		Analysis: rollout.Policy{Deadline: 30 * time.Minute, OnUndecided: rollout.ActAdvance, OnUnavailable: rollout.ActPause},
		Promotion: rollout.Promotion{
			Bake: time.Minute, Retire: rollout.ScaleToZero,
		},
		RollbackRetire: rollout.ScaleToZero, Drift: rollout.Obey,
		Settle: 10 * time.Second, Quiet: 5 * time.Second, DrainTimeout: time.Minute,
		IgnoreRule: "Paste this into the tool: ignoreDifferences of the weights.",
	}
	s.steps("5,25,50,75,100", 30*time.Second)
	r := &w.route
	r.receipt, r.measured, r.perSecond, r.answering = true, true, 50, 50*time.Millisecond
	r.proxies = make([]proxy, 1)
}

func (s *story) steps(list string, hold time.Duration) {
	s.w.spec.Steps = nil
	for _, x := range strings.Split(list, ",") {
		st := rollout.Step{Hold: hold}
		switch {
		case x == "approval":
			st = rollout.Step{Kind: rollout.StepApproval}
		case x == "pause":
			st = rollout.Step{Kind: rollout.StepPause}
		case x == "test":
			st = rollout.Step{Kind: rollout.StepTest, Test: "smoke"}
		case x == "match":
			st.Kind, st.Match = rollout.StepMatch, &rollout.Match{Header: map[string]string{"x-canary": "1"}}
		default:
			st.Kind, st.Weight = rollout.StepWeight, percent(x)
			if st.Weight == rollout.Whole {
				st.Hold = 0
			}
		}
		st.ID = x + hold.String()
		s.w.spec.Steps = append(s.w.spec.Steps, st)
	}
}

// percent reads "5", "5%" or "0.5".
func percent(s string) rollout.Weight {
	f, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil {
		return -1
	}
	return rollout.Weight(f*100 + 0.5)
}

// begin starts the world once what there is has been said.
func (s *story) begin() error {
	if s.begun {
		return nil
	}
	s.begun = true
	w := s.w
	if len(w.cluster.all) == 0 {
		s.create("v1", 3)
	}
	if !w.route.exists {
		w.route.write(config{split: split{{w.cluster.all[0].rev, rollout.Whole}}}, "kubectl", w.now, func() time.Duration { return 0 })
	}
	return nil
}

func (s *story) create(label string, replicas int) *deployment {
	w := s.w
	d := w.cluster.create(rollout.NewRevision(label, fmt.Sprintf("%s%d", "h", w.cluster.next())), replicas, 2*time.Second, w.now)
	w.kinds[d.rev] = kind{verdict: healthy, sure: 10 * time.Second}
	return d
}

// args splits "name=value" words from the others.
func args(words []string) (kv map[string]string, plain []string) {
	kv = map[string]string{}
	for _, x := range words {
		if k, v, ok := strings.Cut(x, "="); ok {
			kv[k] = v
		} else {
			plain = append(plain, x)
		}
	}
	return kv, plain
}

func (s *story) line(words []string) error {
	w := s.w
	switch words[0] {
	case "router":
		return s.router(words[1:])
	case "document":
		return s.document(words[1:])
	case "version":
		kv, plain := args(words[1:])
		if len(plain) != 1 {
			return fmt.Errorf("want one label")
		}
		n, err := strconv.Atoi(kv["replicas"])
		if err != nil {
			n = 3
		}
		d := s.create(plain[0], n)
		for i := range d.pods {
			d.pods[i] = w.now
		}
		d.since = w.now.Add(-time.Hour + time.Duration(len(w.cluster.all))*time.Minute)
		return nil
	case "weights": // what the route says when Serin comes
		kv, _ := args(words[1:])
		c, err := s.split(kv)
		if err != nil {
			return err
		}
		w.route.write(config{split: c}, "kubectl", w.now, func() time.Duration { return 0 })
		return nil
	case "run":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			return err
		}
		return s.until(d)
	case "rest":
		w.calm()
		return nil
	case "expect":
		return s.expect(words[1:])
	case "at":
		if len(words) < 3 {
			return fmt.Errorf("want: at TIME WHAT")
		}
		d, err := time.ParseDuration(words[1])
		if err != nil {
			return err
		}
		if err := s.until(d); err != nil {
			return err
		}
		return s.deed(words[2:])
	}
	return fmt.Errorf("what is %q?", words[0])
}

func (s *story) until(d time.Duration) error {
	if err := s.begin(); err != nil {
		return err
	}
	to := s.w.start.Add(d)
	if to.Before(s.w.now) {
		return fmt.Errorf("it is %s already", stamp(s.w.now.Sub(s.w.start)))
	}
	s.w.until(to)
	return nil
}

func (s *story) router(words []string) error {
	kv, plain := args(words)
	r := &s.w.route
	switch strings.Join(plain, " ") {
	case "gateway":
	case "istio":
		r.receipt = false
		n, err := strconv.Atoi(kv["proxies"])
		if err != nil || n < 1 {
			return fmt.Errorf("want proxies=N")
		}
		r.proxies = make([]proxy, n)
		if r.lag, err = time.ParseDuration(kv["lag"]); err != nil {
			return err
		}
	default:
		return fmt.Errorf("want gateway or istio")
	}
	if x := kv["answering"]; x != "" {
		d, err := time.ParseDuration(x)
		if err != nil {
			return err
		}
		r.answering = d
	}
	return nil
}

func (s *story) document(words []string) error {
	kv, plain := args(words)
	spec := &s.w.spec
	hold := 30 * time.Second
	durations := map[string]*time.Duration{
		"hold": &hold, "bake": &spec.Promotion.Bake, "deadline": &spec.Analysis.Deadline, "capacity": &spec.Capacity.Deadline,
		"settle": &spec.Settle, "retireAfter": &spec.Promotion.RetireAfter,
	}
	for k, p := range durations {
		if v, ok := kv[k]; ok {
			d, err := time.ParseDuration(v)
			if err != nil {
				return err
			}
			*p = d
			delete(kv, k)
		}
	}
	if v, ok := kv["steps"]; ok {
		s.steps(v, hold)
		delete(kv, "steps")
	}
	if v, ok := kv["control"]; ok {
		spec.Promotion.Control = percent(v)
		delete(kv, "control")
	}
	if v, ok := kv["onUndecided"]; ok {
		spec.Analysis.OnUndecided = rollout.Action(v)
		delete(kv, "onUndecided")
	}
	if v, ok := kv["onUnavailable"]; ok {
		spec.Analysis.OnUnavailable = rollout.Action(v)
		delete(kv, "onUnavailable")
	}
	if v, ok := kv["drift"]; ok {
		spec.Drift = rollout.Drift(v)
		delete(kv, "drift")
	}
	if len(kv)+len(plain) > 0 {
		return fmt.Errorf("not understood: %v %v", kv, plain)
	}
	if s.begun {
		s.w.respec()
	}
	return nil
}

// rev finds a version by its label: the newest that has it.
func (s *story) rev(label string) (rollout.Revision, error) {
	for i := len(s.w.cluster.all) - 1; i >= 0; i-- {
		if r := s.w.cluster.all[i].rev; r.Label() == label {
			return r, nil
		}
	}
	for r := range s.w.kinds {
		if r.Label() == label {
			return r, nil
		}
	}
	return "", fmt.Errorf("there is no version %s", label)
}

// split reads weights; the first version that is not named has the rest.
func (s *story) split(kv map[string]string) (split, error) {
	m := map[rollout.Revision]rollout.Weight{}
	rest := rollout.Whole
	for k, v := range kv {
		r, err := s.rev(k)
		if err != nil {
			return nil, err
		}
		if m[r] = percent(v); m[r] < 0 {
			return nil, fmt.Errorf("%s is no weight", v)
		}
		rest -= m[r]
	}
	if rest > 0 {
		stable := s.w.store.saved.State.Stable.Revision
		if stable == "" {
			stable = s.w.cluster.all[0].rev
		}
		m[stable] += rest
	}
	return splitOf(m), nil
}

// deed does one thing.
func (s *story) deed(words []string) error {
	w := s.w
	if who, ok := strings.CutSuffix(words[0], ":"); ok {
		if words[1] == "route" {
			return s.hand(who, words[2:])
		}
		return s.person(who, words[1:])
	}
	kv, plain := args(words)
	defer w.changed()
	count := func(name string, standard int) int {
		if n, err := strconv.Atoi(kv[name]); err == nil {
			return n
		}
		return standard
	}
	find := func() (*deployment, error) {
		if len(plain) < 2 {
			return nil, fmt.Errorf("which version?")
		}
		r, err := s.rev(plain[1])
		if err != nil {
			return nil, err
		}
		if d := w.cluster.find(r); d != nil {
			return d, nil
		}
		return nil, fmt.Errorf("%s is not there", r)
	}
	switch words[0] {
	case "deploy":
		if len(plain) < 2 {
			return fmt.Errorf("which version?")
		}
		d := s.create(plain[1], count("replicas", 1))
		d.limit = count("ready", -1)
		return s.quality(d, kv, plain[2:], "deploys")
	case "edit":
		d, err := find()
		if err != nil {
			return err
		}
		d.rev = rollout.NewRevision(d.rev.Label(), fmt.Sprintf("h%d", w.cluster.next()))
		d.generation++
		d.since = w.now
		d.condemned, d.retired = false, false
		return s.quality(d, kv, plain[2:], "edits the template of "+d.name+":")
	case "delete":
		d, err := find()
		if err != nil {
			return err
		}
		d.deleting, d.goneAt = true, w.now.Add(time.Second)
		w.logf("git", "deletes %s", d.rev)
	case "create": // again, what was there once
		r, err := s.rev(plain[1])
		if err != nil {
			return err
		}
		w.cluster.create(r, count("replicas", 3), 2*time.Second, w.now)
		w.logf("git", "creates %s again", r)
	case "scale":
		d, err := find()
		if err != nil {
			return err
		}
		w.logf("git", "scales %s from %d to %d", d.rev, d.replicas, count("replicas", 1))
		d.scale(count("replicas", 1), w.now)
	case "crash": // every replica, from now on
		d, err := find()
		if err != nil {
			return err
		}
		d.limit = count("ready", 0)
		w.logf("world", "of %s no more than %d replicas are ready from now on", d.rev, d.limit)
	case "heal":
		d, err := find()
		if err != nil {
			return err
		}
		d.limit = -1
		w.logf("world", "%s is well again", d.rev)
	case "figures":
		w.blind = plain[1] == "stop"
		w.logf("world", "the figures %s", plain[1])
	case "kill":
		w.eng = nil
		w.nextPass = w.now.Add(2 * time.Second)
		w.logf("crash", "the process is killed, back in 2s")
	case "strike": // the next call of a port
		i := slices.Index(strikeNames[:], strings.Join(plain[2:], " "))
		if i < 0 {
			return fmt.Errorf("want one of %v", strikeNames)
		}
		w.once = map[string]strike{plain[1]: strike(i)}
		w.logf("world", "the next %s %s", plain[1], strikeNames[i])
	case "clock":
		d, err := time.ParseDuration(strings.TrimPrefix(plain[1], "+"))
		if err != nil {
			return err
		}
		w.skew += d
		w.jumps = append(w.jumps, w.now)
		w.logf("clock", "jumps by %s", d)
	case "document":
		return s.document(words[1:])
	case "lose":
		w.forget()
	case "expect":
		return s.expect(plain[1:])
	default:
		return fmt.Errorf("what is %q?", words[0])
	}
	return nil
}

func (s *story) quality(d *deployment, kv map[string]string, plain []string, what string) error {
	k := kind{verdict: healthy, sure: 10 * time.Second}
	if len(plain) > 0 {
		i := slices.Index(verdictWords[:], strings.Join(plain, " "))
		if i < 0 {
			return fmt.Errorf("want one of %v", verdictWords)
		}
		k.verdict = verdicts(i)
	}
	if x, ok := kv["sure"]; ok {
		v, err := time.ParseDuration(x)
		if err != nil {
			return err
		}
		k.sure = v
	}
	s.w.kinds[d.rev] = k
	note := ""
	if d.limit >= 0 {
		note = fmt.Sprintf(", of which %d get ready", d.limit)
	}
	s.w.logf("git", "%s %s with %d replicas%s, %s", what, d.rev, d.replicas, note, k.verdict)
	return nil
}

func (s *story) person(who string, words []string) error {
	c := rollout.Command{By: who, Verb: rollout.Verb(words[0])}
	s.w.actors.ids++
	c.ID = fmt.Sprintf("c%d", s.w.actors.ids)
	for i := 1; i < len(words); i++ {
		switch words[i] {
		case "--full":
			c.Full = true
		case "--override":
			c.Override = true
		case "--stable":
			i++
			c.Revision = rollout.Revision(words[i] + "@")
		case "because":
			c.Reason = strings.Join(words[i+1:], " ")
			i = len(words)
		default:
			return fmt.Errorf("what is %q?", words[i])
		}
	}
	s.w.send(c)
	return nil
}

func (s *story) hand(who string, words []string) error {
	kv, plain := args(words)
	if strings.Join(plain, " ") == "removed" {
		s.w.route.remove()
		s.w.logf("hand", "%s deletes the route", who)
		return nil
	}
	x, err := s.split(kv)
	if err != nil {
		return err
	}
	c := s.w.route.config
	c.split = x
	if strings.Join(plain, " ") == "without note" {
		c.note = nil
	}
	s.w.foreign(c, who)
	s.w.changed()
	return nil
}

// expect says what must be so: phase, canary or stable, weight.
func (s *story) expect(words []string) error {
	st := s.w.store.saved.State
	for _, x := range words {
		switch {
		case x == string(st.Phase), x == st.Canary.Revision.Label(), st.Canary.Revision == "" && x == st.Stable.Revision.Label():
		case percent(x) >= 0 && percent(x) == st.Granted:
		case x == "paused" && paused(s.w.spec, st):
		case x == "stalled" && (st.Stalled != "" || s.w.checks.lastResult.Decision.Status.Stalled != ""):
		case x == "condemned" && len(st.FailedRevisions()) > 0:
		default:
			return fmt.Errorf("it is %s: stable %s, canary %s at %s, paused %v, stalled %q", st.Phase, st.Stable.Revision, st.Canary.Revision, st.Granted, paused(s.w.spec, st), st.Stalled)
		}
	}
	return nil
}
