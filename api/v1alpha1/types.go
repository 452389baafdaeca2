package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Rollout says how a new revision of one workload comes to its users.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=sro,categories=delivery
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Step",type=string,JSONPath=`.status.step.text`
// +kubebuilder:printcolumn:name="Weight",type=string,JSONPath=`.status.weight.set`
// +kubebuilder:printcolumn:name="Seen",type=string,JSONPath=`.status.weight.seen`
// +kubebuilder:printcolumn:name="Verdict",type=string,JSONPath=`.status.verdict`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Rollout struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec RolloutSpec `json:"spec"`
	// +optional
	Status RolloutStatus `json:"status,omitzero"`
}

// RolloutList is a list of rollouts, as the API server gives it.
//
// +kubebuilder:object:root=true
type RolloutList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Rollout `json:"items"`
}

// RolloutSpec is what the user asks for. Only workload and traffic have no default.
//
// +kubebuilder:validation:XValidation:rule="!has(self.workload.inPlace) || self.traffic.all(t, !has(t.istio) || has(t.istio.destinationRule))",message="inPlace is split over subsets: give istio.destinationRule"
type RolloutSpec struct {
	// Suspend pauses: nothing is raised while it is true. A failing canary is
	// still taken back.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
	// Workload says which versions there are.
	Workload Workload `json:"workload"`
	// Traffic lists the routes that carry the split; several are kept in step.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	Traffic []Traffic `json:"traffic"`
	// Capacity says what has to be ready before a share is given.
	// +optional
	Capacity Capacity `json:"capacity,omitzero"`
	// Strategy says how the share of the new version grows.
	// +optional
	Strategy Strategy `json:"strategy,omitzero"`
	// Analysis says how the new version is judged.
	// +optional
	Analysis Analysis `json:"analysis,omitzero"`
	// Promotion says what happens once the new version has everything.
	// +optional
	Promotion Promotion `json:"promotion,omitzero"`
	// Rollback says what becomes of a version that was taken back.
	// +optional
	Rollback Rollback `json:"rollback,omitzero"`
	// Drift says what a weight lowered by somebody else leads to. Default Obey.
	// +optional
	// +kubebuilder:default=Obey
	Drift DriftPolicy `json:"drift,omitempty"`
}

// Workload has exactly one member.
//
// +kubebuilder:validation:XValidation:rule="has(self.versions) != has(self.inPlace)",message="exactly one of versions and inPlace"
type Workload struct {
	// Versions: one Deployment per version, told apart by a label.
	// +optional
	Versions *VersionsWorkload `json:"versions,omitempty"`
	// InPlace: one workload whose template is edited.
	// +optional
	InPlace *InPlaceWorkload `json:"inPlace,omitempty"`
}

// VersionsWorkload selects Deployments; the value of Label in their pod
// template is the version.
type VersionsWorkload struct {
	// Selector selects the Deployments of all versions by the labels of their
	// pod template.
	Selector metav1.LabelSelector `json:"selector"`
	// Label is the key of the label that tells versions apart. Default "version".
	// +optional
	// +kubebuilder:default=version
	// +kubebuilder:validation:MaxLength=317
	Label string `json:"label,omitempty"`
}

// InPlaceWorkload names the one workload that is edited.
type InPlaceWorkload struct {
	// +optional
	// +kubebuilder:default=Deployment
	Kind InPlaceKind `json:"kind,omitempty"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// InPlaceKind is the kind of a workload edited in place.
//
// +kubebuilder:validation:Enum=Deployment
type InPlaceKind string

// Kinds that can be edited in place.
const InPlaceDeployment InPlaceKind = "Deployment"

// Traffic names one route; exactly one member.
//
// +kubebuilder:validation:XValidation:rule="has(self.istio) != has(self.gatewayAPI)",message="exactly one of istio and gatewayAPI"
type Traffic struct {
	// +optional
	Istio *IstioTraffic `json:"istio,omitempty"`
	// +optional
	GatewayAPI *GatewayAPITraffic `json:"gatewayAPI,omitempty"`
}

// IstioTraffic is a split in a VirtualService: over the subsets of a
// DestinationRule, or over one Service for each version.
type IstioTraffic struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	VirtualService string `json:"virtualService"`
	// DestinationRule holds a subset for each version. Absent: each version has
	// a Service of its own, which selects its pods and no others, and the route
	// names these as hosts.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	DestinationRule string `json:"destinationRule,omitempty"`
	// Settle is how long a change of the route takes to be in force everywhere.
	// Default 10s; never nil after Default.
	// +optional
	Settle *Duration `json:"settle,omitempty"`
	// Routes names the HTTP routes that carry the split; needed where more
	// than one does.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	Routes []string `json:"routes,omitempty"`
}

// GatewayAPITraffic is a split over the backendRefs of a route.
type GatewayAPITraffic struct {
	// +optional
	// +kubebuilder:default=HTTPRoute
	Kind GatewayAPIKind `json:"kind,omitempty"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Rules names the rules that carry the split; needed where more than one does.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	Rules []string `json:"rules,omitempty"`
}

// GatewayAPIKind is the kind of a Gateway API route.
//
// +kubebuilder:validation:Enum=HTTPRoute;GRPCRoute
type GatewayAPIKind string

// The routes of the Gateway API that can carry a split.
const (
	GatewayAPIHTTPRoute GatewayAPIKind = "HTTPRoute"
	GatewayAPIGRPCRoute GatewayAPIKind = "GRPCRoute"
)

// Capacity says what has to be ready before a share is given.
type Capacity struct {
	// Headroom is added to what a share needs. Default 0%.
	// +optional
	Headroom Percent `json:"headroom,omitempty"`
	// HPA says what is done about a horizontal autoscaler. Default HoldMinimum.
	// +optional
	HPA HPAPolicy `json:"hpa,omitempty"`
	// Deadline is how long a version may take to be ready. Default 10m; never
	// nil after Default.
	// +optional
	Deadline *Duration `json:"deadline,omitempty"`
}

// HPAPolicy says what is done about a horizontal autoscaler during a rollout.
//
// +kubebuilder:validation:Enum=HoldMinimum;Ignore
type HPAPolicy string

const (
	// HPAHoldMinimum raises the autoscaler's minimum to the need, and restores it.
	HPAHoldMinimum HPAPolicy = "HoldMinimum"
	// HPAIgnore leaves it alone.
	HPAIgnore HPAPolicy = "Ignore"
)

// Strategy has at most one member; none means canary with the default steps.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.canary) && has(self.blueGreen))",message="at most one of canary and blueGreen"
type Strategy struct {
	// Canary: the share grows in steps. Never nil after Default unless
	// BlueGreen is given.
	// +optional
	Canary *CanaryStrategy `json:"canary,omitempty"`
	// BlueGreen: one switch.
	// +optional
	BlueGreen *BlueGreenStrategy `json:"blueGreen,omitempty"`
}

// CanaryStrategy gives the new version its share step by step.
//
// +kubebuilder:validation:XValidation:rule="!has(self.steps) || self.steps.all(s, !has(s.weight) || double(s.weight.split('%')[0]) > 0.0 && double(s.weight.split('%')[0]) <= 100.0)",message="a weight is above 0% and at most 100%"
// +kubebuilder:validation:XValidation:rule="!has(self.steps) || [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49].all(i, i >= size(self.steps) || !has(self.steps[i].weight) || [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49].all(j, j <= i || j >= size(self.steps) || !has(self.steps[j].weight) || double(self.steps[j].weight.split('%')[0]) > double(self.steps[i].weight.split('%')[0])))",message="each weight is above the weights before it"
type CanaryStrategy struct {
	// Revert says how a return to a formerly promoted revision goes. Default Fast.
	// +optional
	Revert RevertPolicy `json:"revert,omitempty"`
	// Steps; default 5, 25, 50, 75, 100 %, each held for 1m. Where the last
	// weight is below 100% a step of 100% is added.
	// +optional
	// +kubebuilder:validation:MaxItems=50
	// +listType=atomic
	Steps []Step `json:"steps,omitempty"`
}

// RevertPolicy says how a return to a formerly promoted revision goes.
//
// +kubebuilder:validation:Enum=Fast;Canary
type RevertPolicy string

const (
	// RevertFast: capacity first, then one switch.
	RevertFast RevertPolicy = "Fast"
	// RevertCanary: by the steps, like any other revision.
	RevertCanary RevertPolicy = "Canary"
)

// Step is one of five things.
//
// +kubebuilder:validation:XValidation:rule="[has(self.weight), has(self.match), has(self.approval), has(self.pause), has(self.test)].filter(x, x).size() == 1",message="exactly one of weight, match, approval, pause and test"
// +kubebuilder:validation:XValidation:rule="!has(self.hold) || has(self.weight) || has(self.match)",message="hold belongs to weight or match"
type Step struct {
	// Weight is the new version's share from this step on.
	// +optional
	Weight *Percent `json:"weight,omitempty"`
	// Match sends only requests that ask for it to the new version.
	// +optional
	Match *Match `json:"match,omitempty"`
	// Approval waits for a person's yes.
	// +optional
	Approval *Approval `json:"approval,omitempty"`
	// Pause waits for a time, or for a person to resume.
	// +optional
	Pause *Pause `json:"pause,omitempty"`
	// Test runs something that says yes or no.
	// +optional
	Test *Test `json:"test,omitempty"`
	// Hold is the least time that a weight or a match is observed in force.
	// Default 1m; never nil after Default for those two.
	// +optional
	Hold *Duration `json:"hold,omitempty"`
}

// Match describes a request; everything that is given has to hold.
type Match struct {
	// Header: name to exact value; names are not case-sensitive.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	Header map[string]string `json:"header,omitempty"`
	// Cookie: name to exact value.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	Cookie map[string]string `json:"cookie,omitempty"`
	// Path is what the request's path begins with, byte by byte: "/beta" is
	// the beginning of "/betatest" too.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path,omitempty"`
}

// Approval is a person's yes.
type Approval struct {
	// By lists who may say it: user names, or groups as "group:NAME". Empty:
	// whoever may send commands.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	By []string `json:"by,omitempty"`
	// Until is how long the yes is waited for, counted from the moment it is
	// asked for. When it is over, the new version is taken back. Absent: for ever.
	// +optional
	Until *Duration `json:"until,omitempty"`
}

// Pause waits.
type Pause struct {
	// For is how long. Absent: until a person resumes.
	// +optional
	For *Duration `json:"for,omitempty"`
}

// Test has exactly one of command, webhook and job.
//
// +kubebuilder:validation:XValidation:rule="[has(self.command), has(self.webhook), has(self.job)].filter(x, x).size() == 1",message="exactly one of command, webhook and job"
type Test struct {
	// Command is run without a shell; exit code 0 is yes. One machine only.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=4096
	// +listType=atomic
	Command []string `json:"command,omitempty"`
	// Webhook is asked; a status of 2xx is yes.
	// +optional
	Webhook *WebhookTest `json:"webhook,omitempty"`
	// Job is run; completion is yes. Cluster only.
	// +optional
	Job *JobTest `json:"job,omitempty"`
	// Timeout is how long it may take; then the answer is no. Default 10m;
	// never nil after Default.
	// +optional
	Timeout *Duration `json:"timeout,omitempty"`
}

// WebhookTest is an HTTP endpoint that is sent the rollout's names and revisions.
type WebhookTest struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://`
	URL string `json:"url"`
}

// JobTest runs the job template of a CronJob in the same namespace, which is
// usually suspended. Referring to it keeps pod templates out of this document.
type JobTest struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	CronJob string `json:"cronJob"`
}

// BlueGreenStrategy gives the new version everything in one switch, after it
// has been ready, tested, looked at and approved, in this order.
type BlueGreenStrategy struct {
	// Revert says how a return to a formerly promoted revision goes. Default Fast.
	// +optional
	Revert RevertPolicy `json:"revert,omitempty"`
	// Test is run before anybody sees the new version.
	// +optional
	Test *Test `json:"test,omitempty"`
	// Preview says whose requests reach the new version before the switch.
	// Absent: nobody's.
	// +optional
	Preview *Match `json:"preview,omitempty"`
	// Hold is the least time of the preview. Default 1m with a preview; refused without.
	// +optional
	Hold *Duration `json:"hold,omitempty"`
	// Approval is asked for before the switch.
	// +optional
	Approval *Approval `json:"approval,omitempty"`
}

// Analysis says how the new version is judged. Error rate and latency are
// compared with the stable version unless Skip leaves them out.
//
// +kubebuilder:validation:XValidation:rule="!has(self.none) || !(has(self.errorRate) || has(self.latency) || has(self.cpu) || has(self.memory) || has(self.metrics))",message="none goes with no metric"
type Analysis struct {
	// None switches judging off, for a reason.
	// +optional
	None *NoAnalysis `json:"none,omitempty"`
	// Source of the figures. Default auto.
	// +optional
	Source MetricSource `json:"source,omitempty"`
	// Skip leaves out metrics that are judged by default.
	// +optional
	// +kubebuilder:validation:MaxItems=2
	// +listType=set
	Skip []DefaultMetric `json:"skip,omitempty"`
	// ErrorRate judges the share of failed requests. Never nil after Default
	// unless skipped or None is given.
	// +optional
	ErrorRate *ErrorRate `json:"errorRate,omitempty"`
	// Latency judges how long requests take. Never nil after Default unless
	// skipped or None is given.
	// +optional
	Latency *Latency `json:"latency,omitempty"`
	// CPU judges CPU time: WorseBy per request, Max in cores per pod ("500m").
	// +optional
	CPU *ResourceUse `json:"cpu,omitempty"`
	// Memory judges memory: WorseBy in growth, Max in bytes per pod ("300Mi").
	// +optional
	Memory *ResourceUse `json:"memory,omitempty"`
	// Metrics: anything else that gives a number per version.
	// +optional
	// +kubebuilder:validation:MaxItems=10
	// +listType=map
	// +listMapKey=name
	Metrics []Metric `json:"metrics,omitempty"`
	// MinRequests per version and step, before anything may pass. Default 200;
	// never nil after Default.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000000
	MinRequests *int64 `json:"minRequests,omitempty"`
	// Deadline of a step's evidence, from the moment its split is seen in
	// force. Default 30m, or twice the longest hold where that is more; never
	// nil after Default.
	// +optional
	Deadline *Duration `json:"deadline,omitempty"`
	// OnUndecided: what happens at the deadline with too little data. Default Advance.
	// +optional
	OnUndecided UndecidedPolicy `json:"onUndecided,omitempty"`
	// OnUnavailable: what happens at the deadline with no usable data. Default Pause.
	// +optional
	OnUnavailable UnavailablePolicy `json:"onUnavailable,omitempty"`
	// FalseRollback bounds how often a version that is not worse is taken
	// back, per rollout, over all metrics together. Above 0%, at most 10%.
	// Default 1%; never nil after Default.
	// +optional
	FalseRollback *Percent `json:"falseRollback,omitempty"`
}

// NoAnalysis says why nothing is judged.
type NoAnalysis struct {
	// +kubebuilder:validation:MinLength=10
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason"`
}

// MetricSource says where the figures come from.
//
// +kubebuilder:validation:Enum=auto;prometheus;pods;gateway
type MetricSource string

// Sources of figures.
const (
	SourceAuto       MetricSource = "auto"
	SourcePrometheus MetricSource = "prometheus"
	SourcePods       MetricSource = "pods"
	SourceGateway    MetricSource = "gateway"
)

// DefaultMetric is a metric that is judged unless it is skipped.
//
// +kubebuilder:validation:Enum=errorRate;latency
type DefaultMetric string

// What is judged by default.
const (
	MetricErrorRate DefaultMetric = "errorRate"
	MetricLatency   DefaultMetric = "latency"
)

// ErrorRate bounds the share of failed requests.
//
// +kubebuilder:validation:XValidation:rule="!has(self.__for__) || has(self.max)",message="for says how long max has to be broken: give max"
type ErrorRate struct {
	// WorseBy: so many percentage points above stable are still not worse.
	// Default 0.5pp; never nil after Default.
	// +optional
	WorseBy *Points `json:"worseBy,omitempty"`
	// Max is a limit on the share. No default.
	// +optional
	Max *Percent `json:"max,omitempty"`
	// For is how long Max has to be broken. Default 1m; never nil after
	// Default where Max is given.
	// +optional
	For *Duration `json:"for,omitempty"`
}

// Latency bounds how long requests take.
//
// +kubebuilder:validation:XValidation:rule="!has(self.max) || has(self.quantile)",message="max needs the quantile that it bounds"
// +kubebuilder:validation:XValidation:rule="!has(self.__for__) || has(self.max)",message="for says how long max has to be broken: give max"
type Latency struct {
	// Quantile in percent: 99 is the 99th percentile. Default 99 where Max is
	// not given; needed with Max. Never nil after Default and Validate.
	// +optional
	Quantile *Number `json:"quantile,omitempty"`
	// WorseBy: stable's latencies, longer by so much, are still not worse.
	// Default 20%; never nil after Default.
	// +optional
	WorseBy *Percent `json:"worseBy,omitempty"`
	// Max bounds the quantile. No default. A bound of the histogram has to lie there.
	// +optional
	Max *Duration `json:"max,omitempty"`
	// For is how long Max has to be broken. Default 1m; never nil after
	// Default where Max is given.
	// +optional
	For *Duration `json:"for,omitempty"`
}

// ResourceUse bounds CPU or memory of a version's pods.
//
// +kubebuilder:validation:XValidation:rule="!has(self.__for__) || has(self.max)",message="for says how long max has to be broken: give max"
type ResourceUse struct {
	// WorseBy: so much more than stable is still not worse. Default 30%; never
	// nil after Default.
	// +optional
	WorseBy *Percent `json:"worseBy,omitempty"`
	// Max is a limit per pod: cores or bytes. No default.
	// +optional
	Max *resource.Quantity `json:"max,omitempty"`
	// For is how long Max has to be broken. Default 1m; never nil after
	// Default where Max is given.
	// +optional
	For *Duration `json:"for,omitempty"`
}

// Metric is a number per version with limits.
//
// +kubebuilder:validation:XValidation:rule="has(self.min) || has(self.max)",message="give min, max or both"
type Metric struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// Prometheus gives the number by a query.
	// +optional
	Prometheus *PrometheusMetric `json:"prometheus,omitempty"`
	// +optional
	Min *Number `json:"min,omitempty"`
	// +optional
	Max *Number `json:"max,omitempty"`
	// For is how long a limit has to be broken. Default 1m; never nil after Default.
	// +optional
	For *Duration `json:"for,omitempty"`
}

// PrometheusMetric is a query that gives one number per version.
type PrometheusMetric struct {
	// Query; {{version}} stands for the version's label, {{namespace}} for the
	// rollout's namespace. Without {{version}} it is one number for both.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Query string `json:"query"`
}

// UndecidedPolicy says what happens at the deadline with too little data.
//
// +kubebuilder:validation:Enum=Advance;Pause;RollBack
type UndecidedPolicy string

// What happens at a deadline with too little data.
const (
	UndecidedAdvance  UndecidedPolicy = "Advance" // only while nothing speaks against the new version
	UndecidedPause    UndecidedPolicy = "Pause"
	UndecidedRollBack UndecidedPolicy = "RollBack"
)

// UnavailablePolicy says what happens at the deadline with no usable data.
// Advance is not among its values.
//
// +kubebuilder:validation:Enum=Pause;RollBack
type UnavailablePolicy string

// What happens at a deadline with no usable data.
const (
	UnavailablePause    UnavailablePolicy = "Pause"
	UnavailableRollBack UnavailablePolicy = "RollBack"
)

// Promotion says what happens once the new version has everything.
type Promotion struct {
	// Bake is the judged time at 100 %. Default 10m; never nil after Default.
	// +optional
	Bake *Duration `json:"bake,omitempty"`
	// Retire: what becomes of the old version. Default ScaleToZero.
	// +optional
	Retire RetirePolicy `json:"retire,omitempty"`
	// RetireAfter is how long the old version stays warm after the bake. Default 0s.
	// +optional
	RetireAfter *Duration `json:"retireAfter,omitempty"`
	// Control keeps so much traffic on the old version while baking, as a
	// reference. Default 0%, at most 50%.
	// +optional
	Control Percent `json:"control,omitempty"`
}

// Rollback says what becomes of a version that was taken back.
type Rollback struct {
	// Retire: what becomes of its Deployment. Default ScaleToZero.
	// +optional
	Retire RetirePolicy `json:"retire,omitempty"`
}

// RetirePolicy says how a version's capacity is taken away.
//
// +kubebuilder:validation:Enum=ScaleToZero;Delete;Keep
type RetirePolicy string

// How a version's capacity is taken away.
const (
	RetireScaleToZero RetirePolicy = "ScaleToZero"
	RetireDelete      RetirePolicy = "Delete"
	RetireKeep        RetirePolicy = "Keep"
)

// DriftPolicy says what a weight lowered by somebody else leads to.
//
// +kubebuilder:validation:Enum=Obey;Restore
type DriftPolicy string

const (
	// DriftObey pauses at the lowered weight.
	DriftObey DriftPolicy = "Obey"
	// DriftRestore writes the weight again.
	DriftRestore DriftPolicy = "Restore"
)
