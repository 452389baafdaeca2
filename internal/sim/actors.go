package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// actors are all who do something to the world while it is not calm.
type actors struct {
	next  time.Time
	mean  time.Duration // between two of their deeds
	lasts time.Duration

	prologue bool   // a first release went well before anything goes wrong
	deeds    []deed // this world's: every world has its own mixture
	label    int    // of the newest version
	ids      int    // of commands
	tool     *tool
}

// tool writes the route again and again, as a GitOps controller does.
type tool struct {
	until time.Time
	every time.Duration
	split split
	bare  bool // without our note
}

type deed struct {
	name   string
	weight int
	do     func(*World)
}

// imagine makes the world that the seed says.
func (w *World) imagine() {
	w.faults.rate = pick(w, 0, 0.01, 0.03, 0.1)
	w.faults.kinds = uint32(w.rng.Uint64()) | 1<<failed
	if w.chance(0.2) {
		w.faults.kinds = ^uint32(0)
	}
	w.pace = pick(w, 0, time.Second, 2*time.Second, 5*time.Second, 5*time.Second, 10*time.Second)
	w.actors.mean = pick(w, 5*time.Second, 20*time.Second, time.Minute, 2*time.Minute)
	w.actors.lasts = w.between(2*time.Minute, 12*time.Minute)
	if w.pace == 0 {
		w.actors.lasts = w.between(time.Minute, 3*time.Minute)
	}
	w.real = w.chance(0.04)

	w.spec, w.cfg = w.document(), analysis.Config{MinRequests: 10, FalseRollback: 0.01, StaleAfter: time.Minute}
	if w.real {
		most := 0.01
		w.cfg.ErrorRate = &analysis.RateRule{Max: &most, For: 5 * time.Second}
	}

	r := &w.route
	r.receipt = w.chance(0.5)
	r.measured = r.receipt || w.chance(0.8)
	n := 1
	if !r.receipt {
		n = 1 + w.rng.IntN(4)
		r.lag = w.between(0, w.spec.Settle)
		if r.measured && w.chance(0.15) { // slower than the document thinks
			r.lag = w.between(w.spec.Settle, 45*time.Second)
		}
	} else {
		r.lag = pick(w, 0, 0, time.Second)
	}
	r.proxies = make([]proxy, n)
	if r.measured && !r.receipt && w.chance(0.3) {
		r.every = w.between(2*time.Second, 40*time.Second)
	}
	r.perSecond = pick(w, 0.2, 5, 50, 500)
	r.answering = pick(w, 50*time.Millisecond, 50*time.Millisecond, 3*time.Second, 90*time.Second)

	// What is there when Serin comes.
	stable := w.cluster.create("v1@h0", 1+w.rng.IntN(5), w.startup(), w.now.Add(-time.Hour))
	for i := range stable.pods {
		stable.pods[i] = w.now.Add(-time.Minute)
	}
	w.kinds[stable.rev] = kind{verdict: healthy, sure: 5 * time.Second}
	if w.chance(0.3) {
		stable.hpa = w.autoscaler(stable)
	}
	w.actors.label = 1
	at := split{{stable.rev, rollout.Whole}}
	if w.chance(0.15) { // two versions are there already
		two := w.create()
		switch w.rng.IntN(3) {
		case 0:
			at = split{{stable.rev, rollout.Whole / 2}, {two.rev, rollout.Whole / 2}}
		case 1:
			at = split{{two.rev, rollout.Whole}}
			two.scale(max(1, two.replicas), w.now)
		}
	}
	w.route.write(config{split: at}, "kubectl", w.now, func() time.Duration { return 0 })
	if w.chance(0.3) {
		w.files = map[string]rollout.Weight{"v1": rollout.Whole}
	}
	if r.measured && !r.receipt && w.chance(0.15) {
		r.outside = stable.rev
	}
	w.actors.deeds = w.mixture()
	w.actors.prologue = w.chance(0.4)
}

// prologue is a first release that goes well, so that there is something to go
// back to.
func (w *World) prologue() {
	pace := w.pace
	w.pace = max(pace, 5*time.Second)
	w.until(w.now.Add(5 * time.Second))
	w.actors.label++
	r := rollout.NewRevision(fmt.Sprintf("v%d", w.actors.label), fmt.Sprintf("h%d", w.cluster.next()))
	w.cluster.create(r, 1+w.rng.IntN(3), time.Second, w.now)
	w.kinds[r] = kind{verdict: healthy, sure: time.Second}
	w.logf("git", "deploys %s, which is good", r)
	w.changed()
	for i := 0; i < 15 && w.fail == nil; i++ {
		if w.until(w.now.Add(20 * time.Second)); w.store.saved.State.Stable.Revision == r {
			break
		}
		if i == 1 && w.chance(0.7) { // somebody is in a hurry
			w.send(rollout.Command{ID: "prologue", Verb: rollout.VerbPromote, Full: true, By: "anna"})
		}
	}
	w.pace = pace
}

func (w *World) startup() time.Duration {
	return pick(w, 0, time.Second, 5*time.Second, 20*time.Second, time.Minute)
}

func (w *World) autoscaler(d *deployment) *rollout.HPA {
	least := 1 + w.rng.IntN(3)
	h := &rollout.HPA{Name: "hpa-" + d.name, Min: least, Max: least + 1 + w.rng.IntN(6)}
	h.Desired = min(max(h.Min, d.replicas), h.Max)
	w.cluster.most = max(w.cluster.most, h.Max)
	return h
}

// document makes up a document.
func (w *World) document() rollout.Spec {
	s := rollout.Spec{
		Steps:    w.steps(),
		Revert:   pick(w, rollout.RevertFast, rollout.RevertCanary),
		Capacity: rollout.Capacity{Headroom: pick[rollout.Weight](w, 0, 0, 2000), HPA: pick(w, rollout.HoldMinimum, rollout.HoldMinimum, rollout.IgnoreHPA), Deadline: w.between(30*time.Second, 3*time.Minute)},
		Analysis: rollout.Policy{
			None: w.chance(0.05), Deadline: w.between(20*time.Second, 2*time.Minute),
			OnUndecided:   pick(w, rollout.ActAdvance, rollout.ActPause, rollout.ActRollBack),
			OnUnavailable: pick(w, rollout.ActPause, rollout.ActRollBack),
		},
		Promotion: rollout.Promotion{
			Bake: w.between(0, time.Minute), Retire: pick(w, rollout.ScaleToZero, rollout.ScaleToZero, rollout.Delete, rollout.Keep),
			RetireAfter: pick(w, 0, 0, 30*time.Second), Control: pick[rollout.Weight](w, 0, 0, 0, 500),
		},
		RollbackRetire: pick(w, rollout.ScaleToZero, rollout.ScaleToZero, rollout.Delete, rollout.Keep),
		Drift:          pick(w, rollout.Obey, rollout.Obey, rollout.Restore),
		Settle:         w.between(0, 10*time.Second), Quiet: 5 * time.Second,
		DrainTimeout: pick(w, 20*time.Second, time.Minute),
		IgnoreRule:   "ignoreDifferences: the weights",
	}
	if w.chance(0.1) {
		s.BlueGreen, s.Steps = true, []rollout.Step{{Kind: rollout.StepWeight, Weight: rollout.Whole, ID: "all"}}
	}
	return s
}

func (w *World) steps() []rollout.Step {
	var ss []rollout.Step
	add := func(s rollout.Step) {
		s.ID = fmt.Sprintf("%s-%d-%s-%s-%v", s.Kind, s.Weight, s.Hold, s.Until, s.Match != nil)
		ss = append(ss, s)
	}
	odd := func() {
		if !w.chance(0.25) {
			return
		}
		switch w.rng.IntN(5) {
		case 0:
			add(rollout.Step{Kind: rollout.StepApproval, Until: pick(w, 0, time.Minute)})
		case 1:
			add(rollout.Step{Kind: rollout.StepPause, Hold: pick(w, 0, 10*time.Second)})
		case 2, 4:
			add(rollout.Step{Kind: rollout.StepTest, Test: "smoke"})
		case 3:
			add(rollout.Step{Kind: rollout.StepMatch, Hold: 5 * time.Second, Match: &rollout.Match{Header: map[string]string{"x-canary": "1"}}})
		}
	}
	odd()
	for _, x := range []rollout.Weight{50, 500, 2500, 5000, 7500} {
		if w.chance(0.4) {
			add(rollout.Step{Kind: rollout.StepWeight, Weight: x, Hold: pick(w, 0, 5*time.Second, 15*time.Second)})
			odd()
		}
	}
	add(rollout.Step{Kind: rollout.StepWeight, Weight: rollout.Whole, Hold: pick(w, 0, 5*time.Second)})
	return ss
}

// deeds are all that may happen to a world, and how often beside each other.
func deeds() []deed {
	return []deed{
		{"deploy", 6, func(w *World) { w.deploy() }},
		{"command", 10, func(w *World) { w.command() }},
		{"edit a template", 2, (*World).editTemplate},
		{"delete a version", 2, (*World).deleteVersion},
		{"bring back an old version", 2, (*World).bringBack},
		{"rescale", 3, (*World).rescale},
		{"flap", 6, (*World).flap},
		{"hpa", 3, (*World).moveHPA},
		{"go back", 4, (*World).goBack},
		{"default a field", 1, (*World).rebind},
		{"hand", 4, (*World).hand},
		{"tool", 1, (*World).toolBegins},
		{"remove the route", 1, (*World).removeRoute},
		{"edit the document", 2, (*World).editDocument},
		{"suspend", 1, func(w *World) { w.spec.Suspend = !w.spec.Suspend; w.respec() }},
		{"edit the files", 2, (*World).editFiles},
		{"clock", 1, (*World).jump},
		{"gap", 1, (*World).gap},
		{"kill", 2, (*World).kill},
		{"window", 1, func(w *World) {
			w.opens = w.now.Add(w.between(0, 2*time.Minute))
			w.logf("world", "frozen until %s", stamp(w.opens.Sub(w.start)))
		}},
		{"findings", 1, (*World).find},
		{"lose the state", 1, (*World).loseState},
		{"delete the document", 1, func(w *World) {
			if w.chance(0.3) {
				w.spec.Deleted = true
				w.respec()
			}
		}},
	}
}

// mixture chooses what may happen in this world.
func (w *World) mixture() []deed {
	var out []deed
	for _, d := range deeds() {
		if d.name == "deploy" || w.chance(0.55) {
			out = append(out, d)
		}
	}
	return out
}

// act lets one of them do something.
func (w *World) act() {
	w.actors.next = w.now.Add(time.Duration(w.rng.ExpFloat64() * float64(w.actors.mean)))
	if t := w.actors.tool; t != nil {
		if w.now.After(t.until) {
			w.actors.tool = nil
		} else {
			w.actors.next = w.now.Add(t.every)
			w.toolWrites(t)
			if w.chance(0.7) {
				return
			}
		}
	}
	sum := 0
	for _, d := range w.actors.deeds {
		sum += d.weight
	}
	n := w.rng.IntN(sum)
	for _, d := range w.actors.deeds {
		if n -= d.weight; n < 0 {
			w.met["deed "+d.name]++
			d.do(w)
			w.changed()
			return
		}
	}
}

func (w *World) someone() *deployment {
	if len(w.cluster.all) == 0 {
		return nil
	}
	return w.cluster.all[w.rng.IntN(len(w.cluster.all))]
}

// newKind makes up what a version is like.
func (w *World) newKind() kind {
	v := pick(w, healthy, healthy, healthy, healthy, bad, bad, badLater, silent, vague, nervous, bothBreak, better, moody, flash)
	k := kind{verdict: v, sure: w.between(time.Second, 20*time.Second), failsTest: w.chance(0.15)}
	if v == bad || v == flash || v == badLater {
		k.errors = 0.05
	}
	return k
}

// create makes a version with a new label.
func (w *World) create() *deployment {
	w.actors.label++
	r := rollout.NewRevision(fmt.Sprintf("v%d", w.actors.label), fmt.Sprintf("h%d", w.cluster.next()))
	d := w.cluster.create(r, w.rng.IntN(4), w.startup(), w.now)
	k := w.newKind()
	w.kinds[r] = k
	note := ""
	if w.chance(0.12) {
		d.limit = w.rng.IntN(2)
		note = fmt.Sprintf(", never more than %d ready", d.limit)
	}
	if w.chance(0.2) {
		d.hpa = w.autoscaler(d)
	}
	w.logf("git", "deploys %s with %d replicas, %s%s", r, d.replicas, k.verdict, note)
	return d
}

func (w *World) deploy() {
	if len(w.cluster.all) < 8 {
		w.create()
	}
}

func (w *World) editTemplate() {
	d := w.someone()
	if d == nil || d.deleting {
		return
	}
	k := w.newKind()
	was := d.rev
	d.rev = rollout.NewRevision(d.rev.Label(), fmt.Sprintf("h%d", w.cluster.next()))
	if w.chance(0.2) { // back to what it was once
		var once []rollout.Revision
		for r := range w.kinds {
			if r.Label() == was.Label() && r != was && w.cluster.find(r) == nil {
				once = append(once, r)
			}
		}
		if slices.Sort(once); len(once) > 0 {
			d.rev = once[w.rng.IntN(len(once))]
			k = w.kinds[d.rev]
		}
	}
	w.kinds[d.rev] = k
	d.generation++
	d.since = w.now
	d.condemned, d.retired = false, false
	n := d.replicas
	d.scale(0, w.now)
	d.scale(n, w.now)
	w.logf("git", "edits the template of %s: %s becomes %s, %s", d.name, was, d.rev, k.verdict)
}

func (w *World) deleteVersion() {
	if d := w.someone(); d != nil && !d.deleting {
		d.deleting, d.goneAt = true, w.now.Add(w.between(0, 30*time.Second))
		w.logf("git", "deletes %s", d.rev)
	}
}

// bringBack creates again what was deleted, or scales up what was retired.
func (w *World) bringBack() {
	var gone []rollout.Revision
	for r := range w.kinds {
		if w.cluster.find(r) == nil && w.cluster.named("app-"+r.Label()) == nil {
			gone = append(gone, r)
		}
	}
	slices.Sort(gone)
	if len(gone) == 0 {
		w.rescale()
		return
	}
	r := gone[w.rng.IntN(len(gone))]
	w.cluster.create(r, 1+w.rng.IntN(3), w.startup(), w.now)
	w.logf("git", "creates %s again", r)
}

// goBack is Git going back: stable is taken away, and what was there before it
// is there again.
func (w *World) goBack() {
	st := w.store.saved.State
	d, prev := w.cluster.find(st.Stable.Revision), st.Previous.Revision
	if d == nil || d.deleting || prev == "" {
		return
	}
	p := w.cluster.find(prev)
	if p == nil {
		if w.cluster.named("app-"+prev.Label()) != nil {
			return // its object has another template by now
		}
		p = w.cluster.create(prev, 1+w.rng.IntN(3), w.startup(), w.now)
	}
	if p.replicas == 0 {
		p.scale(1+w.rng.IntN(3), w.now)
		w.cluster.most = max(w.cluster.most, p.replicas)
	}
	if w.chance(0.3) {
		p.limit = 0
	}
	if w.chance(0.6) {
		d.deleting, d.goneAt = true, w.now.Add(w.between(0, 30*time.Second))
		w.logf("git", "goes back from %s to %s", d.rev, prev)
		return
	}
	w.logf("git", "brings %s back; never more than %d of it are ready", prev, p.limit)
	w.actors.ids++
	w.send(rollout.Command{ID: fmt.Sprintf("c%d", w.actors.ids), Verb: rollout.VerbUndo, By: "anna"})
}

func (w *World) rescale() {
	if d := w.someone(); d != nil {
		n := w.rng.IntN(6)
		w.logf("git", "scales %s from %d to %d", d.rev, d.replicas, n)
		d.scale(n, w.now)
		w.cluster.most = max(w.cluster.most, n)
		if d.hpa != nil && n > 0 {
			d.hpa.Desired = min(max(n, d.hpa.Min), d.hpa.Max)
			d.scale(d.hpa.Desired, w.now)
		}
	}
}

// flap makes replicas fail for a while, or for good, or be well again.
func (w *World) flap() {
	d := w.someone()
	if d == nil {
		return
	}
	switch w.rng.IntN(6) {
	case 0:
		for i := range d.pods {
			d.pods[i] = w.now.Add(w.between(time.Second, time.Minute))
		}
		w.logf("world", "all replicas of %s crash", d.rev)
	case 1:
		d.limit = w.rng.IntN(d.replicas + 1)
		w.logf("world", "of %s never more than %d replicas are ready now", d.rev, d.limit)
	case 2:
		d.limit = -1
		w.logf("world", "%s is repaired", d.rev)
	default:
		if len(d.pods) > 0 {
			i := w.rng.IntN(len(d.pods))
			d.pods[i] = w.now.Add(w.between(time.Second, 30*time.Second))
			w.logf("world", "one replica of %s is not ready for a while", d.rev)
		}
	}
}

func (w *World) moveHPA() {
	d := w.someone()
	if d == nil || d.hpa == nil || d.replicas == 0 {
		return
	}
	d.hpa.Desired = d.hpa.Min + w.rng.IntN(max(1, d.hpa.Max-d.hpa.Min+1))
	d.scale(d.hpa.Desired, w.now)
	w.logf("world", "the autoscaler of %s wants %d", d.rev, d.hpa.Desired)
}

// rebind: a server upgrade defaults a field: another hash, nothing else.
func (w *World) rebind() {
	d := w.someone()
	if d == nil || d.deleting {
		return
	}
	was := d.rev
	d.rev = rollout.NewRevision(d.rev.Label(), fmt.Sprintf("r%d", w.cluster.next()))
	w.kinds[d.rev] = w.kinds[was]
	if _, ok := w.checks.condemned[was]; ok {
		delete(w.checks.condemned, was)
		for _, m := range w.store.saved.State.Marks {
			if m.Revision == was && m.UID == d.uid { // or nobody could know that it is the same
				w.checks.condemned[d.rev] = false
			}
		}
	}
	w.route.rename(was, d.rev)
	w.logf("world", "a field of %s is defaulted: %s becomes %s", d.name, was, d.rev)
}

// command sends what a person might.
func (w *World) command() {
	st := w.store.saved.State
	c := rollout.Command{
		Verb: pick(w, rollout.VerbAbort, rollout.VerbUndo, rollout.VerbPause, rollout.VerbApprove, rollout.VerbApprove, rollout.VerbResume, rollout.VerbResume, rollout.VerbResume,
			rollout.VerbPromote, rollout.VerbPromote, rollout.VerbPromote, rollout.VerbRetry, rollout.VerbRetry, rollout.VerbAdopt),
		By: pick(w, "anna", "ben"), Full: w.chance(0.3), Override: w.chance(0.1),
	}
	if idle := !active(st); w.chance(0.6) { // what makes sense now
		c.Verb = pick(w, rollout.VerbPause, rollout.VerbResume, rollout.VerbResume, rollout.VerbApprove, rollout.VerbPromote, rollout.VerbPromote, rollout.VerbPromote, rollout.VerbAbort)
		if idle {
			c.Verb = pick(w, rollout.VerbUndo, rollout.VerbUndo, rollout.VerbRetry, rollout.VerbResume)
		}
	}
	w.actors.ids++
	c.ID = fmt.Sprintf("c%d", w.actors.ids)
	switch w.rng.IntN(6) {
	case 0, 1, 2:
		c.Revision = st.Canary.Revision
	case 3:
		if d := w.someone(); d != nil {
			c.Revision = rollout.Revision(d.rev.Label() + "@")
		}
	}
	if c.Verb == rollout.VerbAdopt || c.Verb == rollout.VerbUndo {
		c.Revision = ""
		if d := w.someone(); d != nil && c.Verb == rollout.VerbAdopt {
			c.Revision = d.rev
		}
	}
	switch w.rng.IntN(4) {
	case 0:
		c.N = st.N
	case 1:
		c.N = max(0, st.N-w.rng.IntN(4))
	}
	w.send(c)
}

func (w *World) send(c rollout.Command) {
	full := ""
	if c.Full {
		full += " --full"
	}
	if c.Override {
		full += " --override"
	}
	w.inbox = append(w.inbox, c)
	w.logf("person", "%s says %s%s (for %q, after %d)", c.By, c.Verb, full, c.Revision, c.N)
	w.changed()
}

// hand writes the route as a person or a tool might.
func (w *World) hand() {
	st := w.store.saved.State
	c := w.route.config
	stable, canary := st.Stable.Revision, st.Canary.Revision
	if !w.route.exists {
		w.logf("hand", "the route is made again")
		if stable == "" {
			stable = "v1@h0"
		}
		w.foreign(config{split: split{{stable, rollout.Whole}}}, "kubectl")
		return
	}
	other := canary
	if d := w.someone(); d != nil && (other == "" || w.chance(0.2)) {
		other = d.rev
	}
	if stable == "" || other == "" {
		return
	}
	two := func(x rollout.Weight) split {
		m := map[rollout.Revision]rollout.Weight{stable: rollout.Whole - x}
		m[other] += x
		return splitOf(m)
	}
	switch w.rng.IntN(9) {
	case 0, 1: // lowered
		c.split = two(rollout.Weight(w.rng.IntN(int(c.split.of(other)) + 1)))
	case 2:
		c.split = two(0)
	case 3: // raised
		c.split = two(min(rollout.Whole, c.split.of(other)+rollout.Weight(w.rng.IntN(5000))))
	case 4:
		c.split = two(rollout.Whole)
	case 5: // nonsense
		c.split = split{{stable, rollout.Weight(w.rng.IntN(6000))}}
	case 6: // our own note is lost, the weights stay
		c.note = nil
	case 7: // an older write of ours comes back, whole
		if len(w.route.last) > 0 {
			c = w.route.last[w.rng.IntN(len(w.route.last))]
		}
	case 8: // a foreign version joins
		if d := w.someone(); d != nil && d.rev != stable {
			x := rollout.Weight(w.rng.IntN(3000))
			m := map[rollout.Revision]rollout.Weight{stable: rollout.Whole - x}
			m[d.rev] += x
			c.split = splitOf(m)
		}
	}
	if w.chance(0.15) {
		c.note = nil
	}
	w.foreign(c, pick(w, "kubectl", "argocd"))
}

func (w *World) foreign(c config, by string) {
	n := "no note"
	if c.note != nil {
		n = fmt.Sprintf("note %d", c.note.N)
	}
	w.logf("hand", "%s writes %s (%s)", by, c.split, n)
	w.route.write(c, by, w.now, w.lag)
}

func (w *World) toolBegins() {
	w.actors.tool = &tool{
		until: w.now.Add(w.between(10*time.Second, 4*time.Minute)), every: w.between(3*time.Second, 40*time.Second),
		split: w.route.config.split, bare: w.chance(0.5),
	}
	w.actors.next = w.now.Add(w.actors.tool.every)
	w.logf("world", "a tool restores %s every %s", w.actors.tool.split, w.actors.tool.every.Round(time.Second))
}

func (w *World) toolWrites(t *tool) {
	if slices.Equal(w.route.config.split, t.split) && w.route.exists {
		return
	}
	c := w.route.config
	c.split = t.split
	if t.bare {
		c.note = nil
	}
	w.foreign(c, "argocd")
	w.changed()
}

func (w *World) removeRoute() {
	if w.route.exists {
		w.route.remove()
		w.logf("hand", "the route is deleted")
	}
}

func (w *World) editDocument() {
	was := w.spec
	w.spec = w.document()
	w.spec.Suspend, w.spec.Deleted, w.spec.Settle, w.spec.DrainTimeout = was.Suspend, was.Deleted, was.Settle, was.DrainTimeout
	if w.chance(0.5) { // the steps alone
		steps := w.spec.Steps
		w.spec = was
		w.spec.Steps = steps
	}
	w.respec()
}

func (w *World) respec() {
	w.logf("git", "edits the document: suspend %v, deleted %v, %d steps", w.spec.Suspend, w.spec.Deleted, len(w.spec.Steps))
	engines := []*engine.Engine{w.eng}
	if w.former != nil {
		engines = append(engines, w.former.eng)
	}
	for _, e := range engines {
		if e == nil {
			continue
		}
		if err := e.Respec(w.spec, w.cfg); err != nil {
			w.failf("sim", "%v", err)
		}
	}
}

func (w *World) editFiles() {
	if w.files == nil {
		return
	}
	st := w.store.saved.State
	m := map[string]rollout.Weight{}
	x := rollout.Weight(w.rng.IntN(int(rollout.Whole) + 1))
	m[st.Stable.Revision.Label()] = rollout.Whole - x
	if l := st.Canary.Revision.Label(); l != "" {
		m[l] = x
	}
	w.files = m
	w.logf("git", "edits the weights in the files: the canary is to have %s", x)
}

func (w *World) jump() {
	d := pick(w, time.Hour, -time.Hour, time.Minute, -time.Minute, 3*time.Second, -3*time.Second)
	w.skew += d
	w.jumps = append(w.jumps, w.now)
	w.logf("clock", "jumps by %s", d)
}

func (w *World) gap() {
	d := w.between(time.Minute, 5*time.Minute)
	w.nextPass, w.poked, w.deaf = w.now.Add(d), time.Time{}, w.now.Add(d)
	w.logf("world", "nothing runs for %s", d.Round(time.Second))
}

func (w *World) kill() {
	if w.eng != nil && w.former == nil && w.chance(0.4) {
		w.own.former, w.led = true, true
		w.former = &former{w.eng, w.own, w.now.Add(w.between(time.Second, time.Minute))}
		w.eng = nil
		w.nextPass = w.now.Add(w.between(0, time.Second))
		w.logf("crash", "another leader takes over; this one goes on until %s", stamp(w.former.until.Sub(w.start)))
		return
	}
	w.eng = nil
	w.nextPass = w.now.Add(w.between(0, 20*time.Second))
	w.logf("crash", "the process is killed")
}

func (w *World) find() {
	w.findings = nil
	if w.chance(0.6) {
		w.findings = []rollout.Finding{{Level: pick(w, rollout.Refuse, rollout.Wait, rollout.Warn), What: "the service selects one version only.", Remedy: "Let it select app only."}}
	}
	w.logf("world", "preflight finds %d things", len(w.findings))
}

// loseState: somebody deletes the status, or the disk.
func (w *World) loseState() {
	if w.chance(0.3) {
		w.forget()
	}
}

func (w *World) forget() {
	w.store = stored{}
	for _, d := range w.cluster.all { // what was only headroom is forgotten, too
		w.cluster.most = max(w.cluster.most, d.replicas)
	}
	w.checks = checks{ahead: 1 << 30} // numbering goes on from the route's note
	w.checks.init()
	w.eng, w.former = nil, nil
	w.logf("world", "the saved state is lost")
	w.stateLost = true
}
