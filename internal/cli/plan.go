package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/manifest"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/sim/trial"
)

// releasePlan is what a release of one application would do.
type releasePlan struct {
	Name     string     `json:"name"`
	Stable   string     `json:"stable"`
	Replicas int        `json:"replicas"` // of stable
	Canary   string     `json:"canary,omitempty"`
	Derived  string     `json:"derived,omitempty"`
	Steps    []planStep `json:"steps"`
	Bake     string     `json:"bake"`
	Retire   string     `json:"retire"`
	Peak     int        `json:"peakReplicas"`     // of both versions together
	Least    string     `json:"leastTime"`        // from ready replicas to promoted
	Changes  int        `json:"changes"`          // of the route
	Settle   string     `json:"settle,omitempty"` // that each takes more, in a mesh without a receipt
	Findings []string   `json:"findings,omitempty"`
}

type planStep struct {
	Text     string  `json:"text"`
	Weight   float64 `json:"weight"`   // canary's share from here on
	Replicas int     `json:"replicas"` // that the canary needs before this step
	Hold     string  `json:"hold,omitempty"`
	Evidence string  `json:"evidence,omitempty"` // about how long a healthy one takes to show that, at the given rate
	On       string  `json:"on,omitempty"`       // what the evidence waits for: requests, errors or latency
	Smallest string  `json:"smallest,omitempty"` // share of failures from which it is told in 10 minutes
	Least    string  `json:"leastTime"`          // until the end of this step
	Person   bool    `json:"person,omitempty"`   // a person ends it
}

// plan: what a release would do, step by step, offline.
func (a *app) plan() *cobra.Command {
	var out format
	var dir string
	var run []string
	var rps float64
	var failing string
	c := &cobra.Command{
		Use:   "plan (-f DIR | NAME)",
		Short: "What a release would do at each step",
		Long: `Plans from documents, offline, or with the NAME of a rollout in a cluster from its
own document and replicas. Says for each step of a release: the share of the traffic, the replicas it needs
first, and the least time it takes. With --rps it also says about how long a healthy
release takes to show that it is, and from what share of failures a wrong one is told
within 10 minutes in nine runs of ten. serin simulate tries that out.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case dir != "" && len(args) > 0:
				return fmt.Errorf("-f names documents and %s a rollout in a cluster: one of them is meant", args[0])
			case dir == "" && len(args) == 0 && !a.Plugin && a.clusterFlags() == nil:
				return errors.New("want -f DIR, or the NAME of a rollout in a cluster")
			}
			if rps < 0 || math.IsNaN(rps) || math.IsInf(rps, 0) {
				return fmt.Errorf("--rps is %v: want requests per second, 0 for not known", rps)
			}
			base, err := v1alpha1.ParsePercent(failing)
			if err != nil {
				return fmt.Errorf("--base: %w", err)
			}
			commands, err := parseRun(run)
			if err != nil {
				return err
			}
			var apps []manifest.App
			if dir == "" {
				doc, v, err := a.document(cmd.Context(), args)
				if err != nil {
					return err
				}
				apps = append(apps, appOf(doc, v))
			} else {
				files, err := documents(dir)
				if err != nil {
					return err
				}
				set, problems := manifest.Load(files, manifest.Options{Run: commands, Unstarted: true})
				if problems != nil {
					return fmt.Errorf("the documents are not right, nothing can be planned:\n%w", problems.Err())
				}
				apps = set.Apps
			}
			var plans []releasePlan
			for _, app := range apps {
				p, err := planOf(app, rps, base.Fraction())
				if err != nil {
					return err
				}
				plans = append(plans, p)
			}
			if out.json() {
				return out.print(a.Stdout, plans)
			}
			for i, p := range plans {
				if i > 0 {
					fmt.Fprintln(a.Stdout)
				}
				if err := printPlan(a.Stdout, p); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&dir, "file", "f", "", "folder of documents")
	c.Flags().StringArrayVar(&run, "run", nil, "IMAGE=COMMAND, as for up; may be repeated")
	c.Flags().Float64Var(&rps, "rps", 0, "requests per second that users send, to say what the evidence takes")
	c.Flags().StringVar(&failing, "base", "0.1%", "share of requests that fail on the stable version, for --rps")
	outputFlag(c, &out)
	return c
}

// appOf is a cluster's rollout as far as a plan needs it.
func appOf(doc *v1alpha1.Rollout, v httpapi.RolloutView) manifest.App {
	app := manifest.App{Name: doc.Name, Namespace: doc.Namespace, Rollout: doc}
	for _, x := range []*httpapi.VersionView{v.Stable, v.Canary} {
		if x != nil {
			app.Versions = append(app.Versions, manifest.Version{Label: x.Version, Deployment: x.Name, Replicas: x.Replicas})
		}
	}
	if v.Stable != nil {
		app.Stable = []string{v.Stable.Version}
	}
	return app
}

func planOf(app manifest.App, rps, base float64) (releasePlan, error) {
	spec, cfg, err := engine.SpecOf(app.Rollout)
	if err != nil {
		return releasePlan{}, err
	}
	p := releasePlan{
		Name: app.Name, Derived: app.Derived, Steps: []planStep{},
		Bake: httpapi.Short(spec.Promotion.Bake), Retire: string(spec.Promotion.Retire), Replicas: 1,
	}
	if len(app.Stable) == 1 {
		p.Stable = app.Stable[0]
	}
	own := 0 // what the canary's own document asks for: never scaled below that
	for _, v := range app.Versions {
		if v.Label == p.Stable {
			p.Replicas = max(1, v.Replicas)
		} else {
			p.Canary, own = v.Label, v.Replicas
		}
	}
	for _, f := range app.Findings {
		p.Findings = append(p.Findings, fmt.Sprintf("%s: %s", f.Level, remedied(f.What, f.Remedy)))
	}
	var total time.Duration
	weight := rollout.Weight(0)
	most := own
	power := map[int]trial.StepPower{}
	if rps > 0 {
		for _, p := range trial.Power(spec, cfg, rps, base, smallestWithin) {
			power[p.Step] = p
		}
	}
	for i, s := range spec.Steps {
		step := planStep{Text: httpapi.StepText(s)}
		wait, before := s.Hold, weight
		switch s.Kind {
		case rollout.StepWeight:
			weight = s.Weight
			if weight == rollout.Whole {
				weight -= spec.Promotion.Control
			}
			if p := power[i]; p.By != "" {
				step.Evidence, step.On = httpapi.Short(p.Evidence.Round(time.Second)), p.By
				wait = max(wait, p.Advance.Round(time.Second))
				if p.Smallest != nil {
					step.Smallest = percent(*p.Smallest)
				}
			}
		case rollout.StepApproval:
			step.Person = true
		case rollout.StepPause:
			step.Person = s.Hold == 0
		}
		if s.Hold > 0 {
			step.Hold = httpapi.Short(s.Hold)
		}
		step.Weight = float64(weight) / float64(rollout.Whole)
		step.Replicas = max(own, needed(p.Replicas, weight, spec.Capacity.Headroom))
		if s.Kind == rollout.StepWeight && s.Weight == rollout.Whole {
			step.Replicas = max(own, needed(p.Replicas, rollout.Whole, spec.Capacity.Headroom))
			wait = max(spec.Promotion.Bake, wait) // its hold is a part of the bake
		}
		most = max(most, step.Replicas)
		total += wait
		if weight != before {
			p.Changes++
		}
		step.Least = httpapi.Short(total)
		p.Steps = append(p.Steps, step)
	}
	p.Peak = p.Replicas + most
	p.Least = httpapi.Short(total)
	if spec.Settle > 0 {
		p.Settle = httpapi.Short(spec.Settle)
	}
	return p, nil
}

// needed is how many replicas carry a weight, as the policy counts them.
func needed(r int, w, headroom rollout.Weight) int {
	full := int(math.Ceil(float64(r) * float64(rollout.Whole+headroom) / float64(rollout.Whole)))
	return max(1, (full*int(w)+int(rollout.Whole)-1)/int(rollout.Whole))
}

// smallestWithin is the time in which the smallest regression is told.
const smallestWithin = 10 * time.Minute

func printPlan(w io.Writer, p releasePlan) error {
	to := "the next version"
	if p.Canary != "" {
		to = p.Canary
	}
	from := "the stable version"
	if p.Stable != "" {
		from = p.Stable
	}
	fmt.Fprintln(w, oneLine(fmt.Sprintf("%s: from %s (%d replicas) to %s", p.Name, from, p.Replicas, to)))
	if p.Derived != "" {
		fmt.Fprintln(w, oneLine("  "+p.Derived))
	}
	rows := [][]string{{"  STEP", "WHAT", "SHARE", "NEEDS FIRST", "EVIDENCE", "TOLD IN " + httpapi.Short(smallestWithin), "LEAST TIME"}}
	atLeast := "at least"
	if slices.ContainsFunc(p.Steps, func(s planStep) bool { return s.Evidence != "" }) {
		rows[0][6], atLeast = "TIME", "about"
	}
	for i, s := range p.Steps {
		evidence, told, least := "-", "-", s.Least
		if s.Evidence != "" {
			evidence = fmt.Sprintf("about %s on %s", s.Evidence, s.On)
		}
		if s.Smallest != "" {
			told = "from " + s.Smallest + " failing"
		}
		if s.Person {
			least += " and a person"
		}
		rows = append(rows, []string{
			fmt.Sprintf("  %d", i+1), s.Text, percent(s.Weight), plural(s.Replicas, "replica") + " ready", evidence, told, least,
		})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w, oneLine(fmt.Sprintf("  at 100 %% it is watched for %s; then it is the stable version, and the old one is retired (%s)", p.Bake, p.Retire)))
	fmt.Fprintf(w, "  at the most %s of both versions together; %s %s from ready replicas to promoted\n", plural(p.Peak, "replica"), atLeast, p.Least)
	if p.Settle != "" {
		fmt.Fprintf(w, "  in a mesh each of the %d changes of the route takes %s more to settle; on one machine they are in force at once\n", p.Changes, p.Settle)
	}
	for _, f := range p.Findings {
		fmt.Fprintln(w, oneLine("  "+f))
	}
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
