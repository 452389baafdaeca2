package rollout

import (
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

// Revision is a version's identity: its label and the hash of its pod template,
// "v2@6f1c2a9b". The empty revision is none.
type Revision string

// NewRevision joins a version label and a template hash.
func NewRevision(label, hash string) Revision { return Revision(label + "@" + hash) }

// Label is the version label, as people say it.
func (r Revision) Label() string { l, _, _ := strings.Cut(string(r), "@"); return l }

// Hash is the template's hash.
func (r Revision) Hash() string { _, h, _ := strings.Cut(string(r), "@"); return h }

// Weight is a share of the traffic in 1/10000.
type Weight int

// Whole is all of the traffic.
const Whole Weight = 10000

func (w Weight) String() string {
	if w < 0 {
		return "-" + (-w).String()
	}
	s := itoa(int(w) / 100)
	if f := int(w) % 100; f != 0 {
		s += "." + strings.TrimRight(string([]byte{'0' + byte(f/10), '0' + byte(f%10)}), "0")
	}
	return s + " %"
}

// ---- Spec ----

// Spec is the document in the core's terms: defaults filled in, values checked.
type Spec struct {
	Suspend   bool      `json:"suspend,omitempty"`
	Deleted   bool      `json:"deleted,omitempty"` // the document is going: end what runs, start nothing
	Steps     []Step    `json:"steps"`             // ends with a weight step of Whole
	BlueGreen bool      `json:"blueGreen,omitempty"`
	Revert    Revert    `json:"revert"`
	Capacity  Capacity  `json:"capacity"`
	Analysis  Policy    `json:"analysis"`
	Promotion Promotion `json:"promotion"`
	// RollbackRetire says what becomes of a version that was taken back.
	RollbackRetire Retire        `json:"rollbackRetire"`
	Drift          Drift         `json:"drift"`
	Settle         time.Duration `json:"settle"`       // time a route change needs where there is no receipt
	Quiet          time.Duration `json:"quiet"`        // no new request for so long: gone (5 s)
	DrainTimeout   time.Duration `json:"drainTimeout"` // superseding and retiring wait no longer for requests in flight (60 s)
	// IgnoreRule is what to paste into the tool that keeps writing the route.
	IgnoreRule string `json:"ignoreRule,omitempty"`
}

// StepKind tells the kinds of step apart.
type StepKind string

const (
	StepWeight   StepKind = "weight"
	StepMatch    StepKind = "match"
	StepApproval StepKind = "approval"
	StepPause    StepKind = "pause"
	StepTest     StepKind = "test"
)

// Step is one step of the plan.
type Step struct {
	Kind   StepKind      `json:"kind"`
	Weight Weight        `json:"weight,omitempty"` // weight steps
	Hold   time.Duration `json:"hold,omitempty"`   // least time observed live (weight, match); length of a pause, 0 = until a person resumes
	Match  *Match        `json:"match,omitempty"`
	By     []string      `json:"by,omitempty"`    // who may approve; empty = whoever may send commands
	Until  time.Duration `json:"until,omitempty"` // an approval's own deadline
	Test   string        `json:"test,omitempty"`  // name of the test to run
	ID     string        `json:"id"`              // hash of the step's content: approvals and tests are kept by it
}

// Match selects requests by what they carry. All given parts must hold.
type Match struct {
	Header map[string]string `json:"header,omitempty"` // exact values
	Cookie map[string]string `json:"cookie,omitempty"`
	Path   string            `json:"path,omitempty"` // prefix
}

type Revert string

const (
	RevertFast   Revert = "Fast"
	RevertCanary Revert = "Canary"
)

// Capacity says how replicas follow the weight.
type Capacity struct {
	Headroom Weight        `json:"headroom,omitempty"` // extra share of R
	HPA      HPAPolicy     `json:"hpa"`
	Deadline time.Duration `json:"deadline"` // never ready by then: rolled back (Preparing) or paused (later)
}

type HPAPolicy string

const (
	HoldMinimum HPAPolicy = "HoldMinimum"
	IgnoreHPA   HPAPolicy = "Ignore"
)

// Policy says what follows from verdicts that are neither Pass nor Fail.
type Policy struct {
	None          bool          `json:"none,omitempty"`
	Deadline      time.Duration `json:"deadline"` // per step, from seen live
	OnUndecided   Action        `json:"onUndecided"`
	OnUnavailable Action        `json:"onUnavailable"`
}

type Action string

const (
	ActAdvance  Action = "Advance" // only when calm
	ActPause    Action = "Pause"
	ActRollBack Action = "RollBack"
)

// Promotion says what happens from 100 % on.
type Promotion struct {
	Bake        time.Duration `json:"bake"`
	Retire      Retire        `json:"retire"`
	RetireAfter time.Duration `json:"retireAfter,omitempty"`
	Control     Weight        `json:"control,omitempty"` // stays on the old version while baking
}

type Retire string

const (
	ScaleToZero Retire = "ScaleToZero"
	Delete      Retire = "Delete"
	Keep        Retire = "Keep"
)

type Drift string

const (
	Obey    Drift = "Obey"
	Restore Drift = "Restore"
)

// ---- Observation ----

// Known keeps "don't know" apart from "no". The zero value is Unknown.
type Known uint8

const (
	Unknown Known = iota
	Absent
	Present
)

// Observation is everything that is seen in one look. What a failed read would
// have said is Unknown, never absent and never zero.
type Observation struct {
	Workloads Workloads       `json:"workloads"`
	Route     Route           `json:"route"`
	Report    analysis.Report `json:"report"` // the judge's answer for State.Canary
	Commands  []Command       `json:"commands,omitempty"`
	Tests     []TestAnswer    `json:"tests,omitempty"`
	Windows   []Window        `json:"windows,omitempty"`  // closed windows and freezes: nothing is raised
	Findings  []Finding       `json:"findings,omitempty"` // preflight's
	// Declared holds, on one machine, the weights that the user's files ask
	// for; nil where the route itself is the declaration (a cluster).
	Declared *Declared `json:"declared,omitempty"`
	// SaveError and ApplyError are the last pass's; shown, and never a reason
	// to raise anything.
	SaveError string `json:"saveError,omitempty"`
	// Source is where samples would come from if it were chosen now. It is
	// chosen once, in Preparing, and kept for the rollout.
	Source     string `json:"source,omitempty"`
	ApplyError string `json:"applyError,omitempty"`
}

// Workloads lists every version that is there.
type Workloads struct {
	Known Known      `json:"known"`
	Items []Workload `json:"items,omitempty"`
}

// Workload is one version as it stands.
type Workload struct {
	Revision   Revision  `json:"revision"`
	Name       string    `json:"name"` // the Deployment's
	UID        string    `json:"uid,omitempty"`
	Generation int64     `json:"generation,omitempty"`
	Since      time.Time `json:"since"` // created, or got this template
	Deleting   bool      `json:"deleting,omitempty"`
	Replicas   int       `json:"replicas"`   // asked for
	Ready      int       `json:"ready"`      // that the router would send to
	ReadyKnown bool      `json:"readyKnown"` // false: Ready says nothing
	Why        string    `json:"why,omitempty"`
	HPA        *HPA      `json:"hpa,omitempty"`
	// Condemned and Retired are marks on the object itself, so that a lost
	// state does not lose them.
	Condemned bool `json:"condemned,omitempty"`
	Retired   bool `json:"retired,omitempty"`
}

// HPA is the autoscaler of a workload.
type HPA struct {
	Name    string `json:"name"`
	Min     int    `json:"min"`
	Max     int    `json:"max"`
	Desired int    `json:"desired"`
}

// Route is the split as it stands, whoever wrote it.
type Route struct {
	Known   Known               `json:"known"`
	Weights map[Revision]Weight `json:"weights,omitempty"`
	Note    *Note               `json:"note,omitempty"`    // what our last write said of itself
	Manager string              `json:"manager,omitempty"` // who wrote last, where it can be told
	// HasReceipt: the router says itself which decision is in force. Otherwise
	// settle time and the seen share must do.
	HasReceipt bool `json:"hasReceipt,omitempty"`
	Receipt    int  `json:"receipt,omitempty"` // number of the decision in force
	// Measured: the maps below say something (a missing key is 0 then).
	Measured bool                   `json:"measured,omitempty"`
	Requests map[Revision]float64   `json:"requests,omitempty"` // cumulative, since any fixed point
	Counted  map[Revision]time.Time `json:"counted,omitzero"`   // when the count was last renewed; a missing key: at this look
	InFlight map[Revision]int       `json:"inFlight,omitzero"`  // nil: not known
	Last     map[Revision]time.Time `json:"last,omitzero"`      // last request seen; nil: not known
	// Elsewhere are versions that other routes, which do not carry the split, send
	// requests to: whoever takes them away takes those users' answers away.
	Elsewhere map[Revision]bool `json:"elsewhere,omitempty"`
}

// Note travels with every route write, in the same write.
type Note struct {
	N         int        `json:"n"`
	Stable    Revision   `json:"stable"`
	Canary    Revision   `json:"canary,omitempty"`
	Weight    Weight     `json:"weight"` // canary's
	Condemned []Revision `json:"condemned,omitempty"`
}

// Declared are the weights in the user's files, and where they stand.
type Declared struct {
	Where   string            `json:"where"`
	Weights map[string]Weight `json:"weights"` // by version label
}

// Verb names a command.
type Verb string

const (
	VerbAbort   Verb = "abort"
	VerbUndo    Verb = "undo"
	VerbPause   Verb = "pause"
	VerbApprove Verb = "approve"
	VerbResume  Verb = "resume"
	VerbPromote Verb = "promote"
	VerbRetry   Verb = "retry"
	VerbAdopt   Verb = "adopt"
)

// Command is what a person asks for.
type Command struct {
	ID       string   `json:"id"`
	Verb     Verb     `json:"verb"`
	By       string   `json:"by"`
	Reason   string   `json:"reason,omitempty"`
	Revision Revision `json:"revision,omitempty"` // the canary its author saw; a bare label is enough
	N        int      `json:"n,omitempty"`        // the last decision its author saw; 0 = not said
	Full     bool     `json:"full,omitempty"`     // promote: all the way
	Override bool     `json:"override,omitempty"` // promote: past a Fail
	// Groups are the author's, as the host vouches for them; they are never read
	// from what a client sent, and never kept in the state.
	Groups []string `json:"-"`
}

// TestAnswer is the end of a test that a step asked for.
type TestAnswer struct {
	ID     string `json:"id"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail,omitempty"`
}

// Window is a closed time window or a freeze.
type Window struct {
	Name  string    `json:"name"`
	Opens time.Time `json:"opens,omitzero"` // zero = not known
}

// Level says how much a preflight finding matters.
type Level string

const (
	Refuse Level = "Refuse" // no traffic moves
	Wait   Level = "Wait"   // not now; may pass by itself
	Warn   Level = "Warn"
)

// Finding is what preflight found, with its remedy.
type Finding struct {
	Level  Level  `json:"level"`
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}

// String is the finding as a sentence, with its remedy.
func (f Finding) String() string {
	s := sentence(f.What)
	if f.Remedy != "" {
		s += " Remedy: " + sentence(f.Remedy)
	}
	return s
}

// ---- State ----

type Phase string

const (
	Idle        Phase = "Idle"
	Preparing   Phase = "Preparing"
	Progressing Phase = "Progressing"
	Promoting   Phase = "Promoting"
	Baking      Phase = "Baking"
	RollingBack Phase = "RollingBack"
)

// SchemaVersion is written into every state.
const SchemaVersion = 1

// Kind of move from stable to canary.
type Move string

const (
	MoveCanary Move = ""     // steps, judged, baked
	MoveUndo   Move = "undo" // a person goes back: capacity, one switch, condemns what it leaves
	MoveFast   Move = "fast" // Git goes back: capacity, one switch
)

// State is all that must outlive a crash. It is saved before anything is done.
type State struct {
	Schema int   `json:"schema"`
	N      int   `json:"n"` // number of the last decision
	Phase  Phase `json:"phase"`

	Stable   Object   `json:"stable"`
	R        int      `json:"r,omitempty"` // largest count of stable seen in this rollout
	Previous Previous `json:"previous,omitzero"`
	Given    Given    `json:"given,omitzero"`

	// Rollout in progress; zero at Idle.
	Canary    Object        `json:"canary,omitzero"`
	Move      Move          `json:"move,omitempty"`
	Try       int           `json:"try,omitempty"` // retries of this revision so far
	Started   time.Time     `json:"started,omitzero"`
	Plan      []Step        `json:"plan,omitempty"` // steps in force
	Step      int           `json:"step"`
	Entered   bool          `json:"entered,omitempty"` // the step's entry has been done: granted, or paused
	Granted   Weight        `json:"granted"`           // canary's weight as decided
	Confirmed Weight        `json:"confirmed"`         // canary's weight as last seen live
	TrafficN  int           `json:"trafficN"`          // decision that the split in force belongs to
	Asked     time.Time     `json:"asked,omitzero"`    // when the route was first seen to hold what was granted
	Settled   time.Duration `json:"settled,omitempty"` // since Asked, in small steps
	Share     Share         `json:"share,omitzero"`    // counts when it was
	LiveAt    time.Time     `json:"liveAt,omitzero"`   // latch: the split was seen in force
	Full      bool          `json:"full,omitempty"`    // promote --full
	Override  bool          `json:"override,omitempty"`
	Unjudged  bool          `json:"unjudged,omitempty"`  // stable was lost: everything went to the canary
	Closing   bool          `json:"closing,omitempty"`   // bake with a control is over: 100/0, then rest
	ZeroFor   time.Duration `json:"zeroFor,omitempty"`   // since the first of those looks
	ZeroReady int           `json:"zeroReady,omitempty"` // looks in a row with no canary ready
	Ending    *Ending       `json:"ending,omitempty"`    // why it is being taken back
	Source    string        `json:"source,omitempty"`    // of the samples, chosen in Preparing
	Exposed   float64       `json:"exposed,omitempty"`
	Harmed    float64       `json:"harmed,omitempty"`

	// Clocks. They stand still while paused and over gaps.
	LastPass time.Time     `json:"lastPass,omitzero"`
	NextWake time.Time     `json:"nextWake,omitzero"`
	LiveFor  time.Duration `json:"liveFor,omitempty"` // at this step, observed live
	DeadFor  time.Duration `json:"deadFor,omitempty"` // the same, restarted by resume: the deadline's clock
	WaitFor  time.Duration `json:"waitFor,omitempty"` // for capacity

	Pauses    []Pause    `json:"pauses,omitempty"`
	Approvals []Approval `json:"approvals,omitempty"`
	TestsRun  []TestDone `json:"testsRun,omitempty"`
	Leaving   []Leaving  `json:"leaving,omitempty"` // superseded canaries on their way out
	Retiring  []Leaving  `json:"retiring,omitempty"`
	HPAs      []HPAHold  `json:"hpas,omitempty"`

	Marks         []Mark            `json:"marks,omitempty"` // condemned and retired revisions
	Watermark     time.Time         `json:"watermark,omitzero"`
	WatermarkName string            `json:"watermarkName,omitempty"`
	Drift         DriftState        `json:"drift,omitzero"`
	Declared      map[string]Weight `json:"declared,omitzero"`
	Stalled       string            `json:"stalled,omitempty"`   // a person is needed: why
	NewerSince    time.Time         `json:"newerSince,omitzero"` // the route knows later decisions than we do

	Taken     []string  `json:"taken,omitempty"` // command ids, newest last, bounded
	Said      []string  `json:"said,omitempty"`  // what is said once
	Decisions []Event   `json:"decisions,omitempty"`
	History   []Outcome `json:"history,omitempty"`
}

// Object is a revision and the Deployment that runs it.
type Object struct {
	Revision   Revision  `json:"revision,omitempty"`
	Name       string    `json:"name,omitempty"`
	UID        string    `json:"uid,omitempty"`
	Generation int64     `json:"generation,omitempty"`
	Since      time.Time `json:"since,omitzero"`
}

// Given is what headroom made of stable's count while it was the canary.
type Given struct {
	Revision Revision `json:"revision,omitempty"`
	Count    int      `json:"count,omitempty"` // what we asked for
	R        int      `json:"r,omitempty"`     // what it would have been without
}

// Previous is the stable version before this one, kept for undo.
type Previous struct {
	Revision Revision `json:"revision,omitempty"`
	Name     string   `json:"name,omitempty"`
	R        int      `json:"r,omitempty"`
}

// Share holds the request counts at which the seen share's window begins.
type Share struct {
	At     time.Time `json:"at,omitzero"`
	Stable float64   `json:"stable"`
	Canary float64   `json:"canary"`
	// What each was asked in the last window that did not agree with the split.
	AgainstStable float64 `json:"againstStable,omitempty"`
	AgainstCanary float64 `json:"againstCanary,omitempty"`
}

// PauseKind says who paused.
type PauseKind string

const (
	PausePerson PauseKind = "person"
	PauseHand   PauseKind = "hand"   // a hand lowered the weight
	PausePolicy PauseKind = "policy" // the document says so
	PauseStep   PauseKind = "step"   // a pause step
)

// Pause is one reason not to raise anything.
type Pause struct {
	Kind PauseKind `json:"kind"`
	By   string    `json:"by"`
	Why  string    `json:"why,omitempty"`
	At   time.Time `json:"at"`
}

// Approval was given for a revision and a step's content.
type Approval struct {
	Revision Revision  `json:"revision"`
	Step     string    `json:"step"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

// TestDone is a test's end, kept by revision and step content.
type TestDone struct {
	ID     string `json:"id"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail,omitempty"`
}

// Leaving is a version that has lost its traffic and is owed an end: drained,
// then scaled down. It is done once and then released.
type Leaving struct {
	Revision  Revision  `json:"revision"`
	Name      string    `json:"name"`
	Policy    Retire    `json:"policy"`
	Mark      MarkKind  `json:"mark,omitempty"`
	Due       time.Time `json:"due,omitzero"`       // retireAfter
	ZeroSince time.Time `json:"zeroSince,omitzero"` // weight 0 seen in force
	LastCount float64   `json:"lastCount"`
	Counted   time.Time `json:"counted,omitzero"` // the renewal that LastCount is of
	// Clocks that run in small steps only, so that neither a jump of the clock
	// nor a gap ends a wait.
	Waited time.Duration `json:"waited,omitempty"` // since ZeroSince
	Quiet  time.Duration `json:"quiet,omitempty"`  // between renewals of the count that did not change it
	Unread time.Duration `json:"unread,omitempty"` // since the last renewal
	Gone   bool          `json:"gone,omitempty"`
}

// HPAHold remembers what an autoscaler's minimum was before it was raised.
type HPAHold struct {
	Revision Revision `json:"revision"`
	Name     string   `json:"name"` // the Deployment's: it outlives an edit of its template
	HPA      string   `json:"hpa"`
	Min      int      `json:"min"`
}

// MarkKind is what a revision is marked as.
type MarkKind string

const (
	Condemned MarkKind = "condemned" // no traffic unless a person says retry
	Retired   MarkKind = "retired"   // starts nothing by itself
)

// Mark is kept as long as the object lives, and at most 50 of them.
type Mark struct {
	Revision Revision `json:"revision"`
	Kind     MarkKind `json:"kind"`
	Promoted bool     `json:"promoted,omitempty"` // was stable once: may be gone back to
	GaveUp   bool     `json:"gaveUp,omitempty"`   // Git's way back to this object was given up: not again before it carries everything
	// The object as it was last seen under this mark: the same one at the same
	// generation under another hash is still the one that is meant.
	UID        string    `json:"uid,omitempty"`
	Generation int64     `json:"generation,omitempty"`
	Tries      int       `json:"tries,omitempty"`
	Ended      bool      `json:"ended,omitempty"` // it was scaled away: what brings it back was not us
	At         time.Time `json:"at"`
	Why        string    `json:"why,omitempty"`
}

// DriftState counts foreign writes to the route.
type DriftState struct {
	Flips   []time.Time `json:"flips,omitempty"`
	Lowered int         `json:"lowered,omitempty"` // in this rollout
	Manager string      `json:"manager,omitempty"`
	Foreign bool        `json:"foreign,omitempty"` // the route does not hold what we want, and it was not us
	Restore bool        `json:"restore,omitempty"` // a person wants it undone
	Seen    string      `json:"seen,omitempty"`    // the foreign split that was last answered
	Fight   bool        `json:"fight,omitempty"`   // at rest: somebody writes again and again, and it was said
}

// Result is how a rollout ended.
type Result string

const (
	Promoted   Result = "promoted"
	RolledBack Result = "rolledBack"
	Aborted    Result = "aborted"
	Superseded Result = "superseded"
	Withdrawn  Result = "withdrawn"
	Undone     Result = "undone"
	Reverted   Result = "reverted"
	Abandoned  Result = "abandoned" // an undo that never got ready
)

// Ending is set while a version is being taken back.
type Ending struct {
	Result Result    `json:"result"`
	By     string    `json:"by"`
	Why    string    `json:"why"`
	At     time.Time `json:"at"`
	From   Weight    `json:"from"`
}

// Outcome is one past rollout.
type Outcome struct {
	Revision Revision  `json:"revision"`
	From     Revision  `json:"from"`
	Result   Result    `json:"result"`
	Why      string    `json:"why,omitempty"`
	By       string    `json:"by"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"`
	Exposed  float64   `json:"exposed"`
	Harmed   float64   `json:"harmed"`
}

// What names the kind of a decision. Reasons are constants.
type What string

const (
	EvAdopted           What = "Adopted"
	EvRolloutStarted    What = "RolloutStarted"
	EvScaleAsked        What = "ScaleAsked"
	EvStepStarted       What = "StepStarted"
	EvBakeStarted       What = "BakeStarted"
	EvPromoted          What = "Promoted"
	EvRolledBack        What = "RolledBack"
	EvAborted           What = "Aborted"
	EvSuperseded        What = "Superseded"
	EvWithdrawn         What = "Withdrawn"
	EvTrafficBack       What = "TrafficBack"
	EvRetired           What = "Retired"
	EvPaused            What = "Paused"
	EvResumed           What = "Resumed"
	EvApprovalRequested What = "ApprovalRequested"
	EvApproved          What = "Approved"
	EvTestStarted       What = "TestStarted"
	EvTestPassed        What = "TestPassed"
	EvUndoStarted       What = "UndoStarted"
	EvUndone            What = "Undone"
	EvUndoAbandoned     What = "UndoAbandoned"
	EvRevertStarted     What = "RevertStarted"
	EvReverted          What = "Reverted"
	EvRetryStarted      What = "RetryStarted"
	EvOverridden        What = "Overridden"
	EvRefused           What = "CommandRefused"
	EvDriftObeyed       What = "DriftObeyed"
	EvDriftUndone       What = "DriftUndone"
	EvDriftFight        What = "DriftFight"
	EvDriftLeft         What = "DriftLeft"
	EvStableChanged     What = "StableChanged"
	EvStableLost        What = "StableLost"
	EvStalled           What = "Stalled"
	EvMentioned         What = "Mentioned"
	EvStepsChanged      What = "StepsChanged"
	EvStateRebuilt      What = "StateRebuilt"
)

// Event is one decision: numbered without gaps, one author, never changed. It
// may be told twice; its number makes doubles harmless.
type Event struct {
	N       int               `json:"n"`
	At      time.Time         `json:"at"`
	By      string            `json:"by"` // "rule", "deadline", "git", or a person's name
	What    What              `json:"what"`
	From    string            `json:"from,omitempty"`
	To      string            `json:"to,omitempty"`
	Why     string            `json:"why"`
	Figures []analysis.Figure `json:"figures,omitempty"`
	Rev     Revision          `json:"revision,omitempty"`
}

// ---- Decision ----

// Decision is the answer of one pass.
type Decision struct {
	Next    State
	Traffic *Traffic // the whole split that must be in force; nil = leave the route alone
	Scale   []Scale
	Tests   []TestRun
	Events  []Event
	Status  Status
	Measure time.Duration // look at the samples so often; 0 = not at all
	Save    Save
	Lowers  bool      // the split lowers the canary's exposure: goes before anything else
	Wake    time.Time // when to look again if nothing happens; zero = no need
}

// Traffic is the whole split.
type Traffic struct {
	N         int        `json:"n"`
	Stable    Revision   `json:"stable"`
	Canary    Revision   `json:"canary,omitempty"`
	Weight    Weight     `json:"weight"` // canary's; stable has the rest
	Match     *Match     `json:"match,omitempty"`
	Keep      []Revision `json:"keep,omitempty"` // at weight 0, and must stay referenced
	Condemned []Revision `json:"condemned,omitempty"`
}

// Weights is the split as a map; it sums to Whole.
func (t Traffic) Weights() map[Revision]Weight {
	m := map[Revision]Weight{}
	if w := Whole - t.Weight; w > 0 || t.Canary == "" {
		m[t.Stable] = w
	}
	if t.Canary != "" && t.Weight > 0 {
		m[t.Canary] = t.Weight
	}
	return m
}

// Note is what the write says of itself.
func (t Traffic) Note() Note {
	return Note{N: t.N, Stable: t.Stable, Canary: t.Canary, Weight: t.Weight, Condemned: t.Condemned}
}

// Scale is what a revision must be able to carry. Min is a floor: an author's
// larger count stays.
type Scale struct {
	Revision Revision `json:"revision"`
	Name     string   `json:"name"`
	Min      int      `json:"min,omitempty"`
	Zero     bool     `json:"zero,omitempty"`
	Delete   bool     `json:"delete,omitempty"`
	Mark     MarkKind `json:"mark,omitempty"`   // written on the object in the same patch
	Unmark   bool     `json:"unmark,omitempty"` // take our marks off the object: it is wanted again
	HPA      string   `json:"hpa,omitempty"`    // raise this autoscaler's minimum to HPAMin instead
	HPAMin   int      `json:"hpaMin,omitempty"` // or restore it
}

// TestRun asks for a test to be run, once per ID.
type TestRun struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Revision Revision `json:"revision"`
}

// Save says how much the state matters.
type Save uint8

const (
	SaveNo   Save = iota
	SaveLazy      // clocks only: every 30 s is enough
	SaveMust      // before anything is done
)

// WaitFor names what a rollout waits for.
type WaitFor string

const (
	WaitNothing  WaitFor = ""
	WaitHold     WaitFor = "hold"
	WaitEvidence WaitFor = "evidence"
	WaitData     WaitFor = "data"
	WaitTraffic  WaitFor = "traffic"
	WaitCapacity WaitFor = "capacity"
	WaitApproval WaitFor = "approval"
	WaitPerson   WaitFor = "person"
	WaitTest     WaitFor = "test"
	WaitWindow   WaitFor = "window"
	WaitLeaving  WaitFor = "leaving"
	WaitRoute    WaitFor = "route"
	WaitFinding  WaitFor = "preflight"
)

// Status is the pass as people read it. It is derived, never saved.
type Status struct {
	Message string    `json:"message"`
	Waiting WaitFor   `json:"waiting,omitempty"`
	Until   time.Time `json:"until,omitzero"` // when the wait ends at the latest, where known
	Stalled string    `json:"stalled,omitempty"`
	Paused  string    `json:"paused,omitempty"`
}
