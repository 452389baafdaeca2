package istio

import (
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/rollout"
)

// scene is the article's objects, with what a case changes.
func scene(t *testing.T, vs, dr string, change ...func(*Scene)) Scene {
	t.Helper()
	s := Scene{Target: Target{VirtualService: "my-app-vs", DestinationRule: "my-app-dest"}}
	s.Root, s.Rule = file(t, "03-virtualservice.yaml"), file(t, "02-destinationrule.yaml")
	if vs != "" {
		s.Root = object(t, vs)
	}
	if dr != "" {
		s.Rule = object(t, dr)
	}
	for _, o := range []map[string]any{s.Root, s.Rule} {
		meta, _ := o["metadata"].(map[string]any)
		if meta == nil {
			meta = map[string]any{}
			o["metadata"] = meta
		}
		meta["namespace"] = "default"
		if meta["name"] == nil {
			meta["name"] = "my-app-vs"
		}
	}
	s.View = View{Namespace: "default", Label: "version", Versions: versions, Services: []Service{{Name: "my-app-service", Namespace: "default", Selector: map[string]string{"app": "my-app"}}}}
	rule := ReadRule(s.Rule)
	s.View.Rule = &rule
	for _, f := range change {
		f(&s)
	}
	return s
}

func services(t *testing.T, names ...string) func(*Scene) {
	return func(s *Scene) {
		s.View.Services = nil
		for _, n := range names {
			o := file(t, n)
			s.View.Services = append(s.View.Services, Service{Name: text(o, "metadata", "name"), Namespace: "default", Selector: textMap(o, "spec", "selector")})
		}
	}
}

func routes(names ...string) func(*Scene) {
	return func(s *Scene) { s.Routes, s.View.Routes = names, names }
}

// byHost is a VirtualService whose versions have Services of their own, beside
// the one that callers use: name, and the selector.
func byHost(t *testing.T, services, route string, change ...func(*Scene)) Scene {
	t.Helper()
	return scene(t, "spec: {hosts: [my-app-service], http: ["+route+"]}", "", append([]func(*Scene){func(s *Scene) {
		s.DestinationRule, s.Rule, s.View.Rule = "", nil, nil
		for _, o := range list(object(t, "s: ["+services+"]"), "s") {
			selector := textMap(o)
			delete(selector, "name")
			s.View.Services = append(s.View.Services, Service{Name: text(o, "name"), Namespace: "default", Selector: selector})
		}
	}}, change...)...)
}

func onlyV1(s *Scene) { s.View.Versions = versions[:1] }

const (
	ownV1 = `{name: my-app-v1, app: my-app, version: v1}`
	ownV2 = `, {name: my-app-v2, version: v2}`
)

var none = new(rollout.Revision)

func TestFindings(t *testing.T) {
	weights := []rollout.Step{{Kind: rollout.StepWeight, Weight: 500}, {Kind: rollout.StepWeight, Weight: rollout.Whole}}
	asks := []rollout.Step{{Kind: rollout.StepMatch, Match: &rollout.Match{Path: "/beta"}}}
	http := func(route string) string { return "spec: {hosts: [my-app-service], http: [" + route + "]}" }
	const toV1 = `{destination: {host: my-app-service, subset: v1}, weight: 90}`

	for name, c := range map[string]struct {
		scene  Scene
		steps  []rollout.Step
		canary *rollout.Revision // nil: v2
		want   []string          // level and a part of the sentence, with its remedy; all that there are
	}{
		"Article":          {scene: scene(t, "", ""), steps: weights},
		"ArticleAsItWas":   {scene: scene(t, "", "", services(t, "00-service-as-published.yaml")), want: []string{"Refuse Service my-app-service selects version=v1, so subsets for other versions have no endpoints, and what is routed to them is answered 503. Remedy: remove version from the Service's selector"}},
		"ArticleCorrected": {scene: scene(t, "", "", services(t, "00-service.yaml"))},
		"NoService":        {scene: scene(t, "", "", services(t)), want: []string{"Refuse my-app-service, the host of DestinationRule my-app-dest, is no Service in default"}},
		"OtherPods": {scene: scene(t, "", "", func(s *Scene) { s.View.Services[0].Selector["app"] = "shop" }),
			want: []string{"Refuse Service my-app-service selects app=shop, and the pods of v1 have app=my-app: they are not behind it", "Refuse Service my-app-service selects app=shop, and the pods of v2"}},
		"NoVirtualService":  {scene: scene(t, "", "", func(s *Scene) { s.Root = nil }), want: []string{"Refuse there is no VirtualService my-app-vs in default. Remedy: create it"}},
		"NoDestinationRule": {scene: scene(t, "", "", func(s *Scene) { s.Rule, s.View.Rule = nil, nil }), want: []string{"Refuse there is no DestinationRule my-app-dest in default"}},
		"RouteWithoutTheHost": {scene: scene(t, http(`{route: [{destination: {host: shop}}]}`), ""),
			want: []string{"Refuse no route of VirtualService my-app-vs sends to my-app-service, the host of DestinationRule my-app-dest; it sends to shop"}},
		"NoSuchRoute": {scene: scene(t, "", "", routes("api")), want: []string{`Refuse VirtualService my-app-vs has no route called "api" that sends to the application; it has http route 1`}},
		"TwoRoutes": {scene: scene(t, http(`{name: a, match: [{port: 80}], route: [`+toV1+`]}, {route: [`+toV1+`]}`), ""),
			want: []string{`Refuse more than one route of VirtualService my-app-vs sends to the application: http route "a", http route 2. Remedy: name those that carry the split`}},
		"AnotherRouteToAVersion": {scene: scene(t, http(`{name: a, match: [{port: 80}], route: [`+toV1+`]}, {name: b, route: [`+toV1+`]}`), "", routes("b")),
			want: []string{`Warn http route "a" of VirtualService my-app-vs sends to v1 and does not carry the split: v1 is not taken away as long as it does`}},
		"SubsetWithoutPods": {scene: scene(t, "", `spec: {host: my-app-service, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2, track: beta}}]}`),
			want: []string{"Refuse subset v2 of DestinationRule my-app-dest selects track=beta,version=v2, and the pods of v2 have version=v2: it has no pods"}},
		"SubsetOfNobody": {scene: scene(t, http(`{route: [{destination: {host: my-app-service, subset: v0}, weight: 1}, `+toV1+`]}`), `spec: {host: my-app-service, subsets: [{name: v0, labels: {version: v0}}, {name: v1, labels: {version: v1}}]}`),
			want: []string{"Warn traffic goes to subset v0 of DestinationRule my-app-dest, and no Deployment has pods with version=v0"}},
		"SubsetThatIsNotThere": {scene: scene(t, http(`{route: [{destination: {host: my-app-service, subset: beta}, weight: 1}, `+toV1+`]}`), ""),
			want: []string{"Warn a route names subset beta, which DestinationRule my-app-dest does not have: its share is answered 503"}},
		"SubsetOfNoVersion": {scene: scene(t, http(`{route: [{destination: {host: my-app-service, subset: all}, weight: 10}, `+toV1+`]}`), `spec: {host: my-app-service, subsets: [{name: all, labels: {app: my-app}}, {name: v1, labels: {version: v1}}]}`),
			want: []string{"Warn subset all of DestinationRule my-app-dest is routed to and stands for no one version (app=my-app)", "Warn http route 1 of VirtualService my-app-vs gives 10 % to my-app-service (all), which stays"}},
		"Third": {scene: scene(t, http(`{route: [{destination: {host: legacy}, weight: 10}, `+toV1+`]}`), ""), steps: weights,
			want: []string{"Warn http route 1 of VirtualService my-app-vs gives 10 % to legacy, which stays: the steps divide the remaining 90 %", "Warn http route 1 of VirtualService my-app-vs: 5 % of its 90 parts is no whole number, so all its numbers are multiplied by 10"}},
		"ThirdHasItAll": {scene: scene(t, http(`{route: [{destination: {host: legacy}, weight: 100}, {destination: {host: my-app-service, subset: v1}, weight: 0}]}`), ""),
			want: []string{"Refuse http route 1 of VirtualService my-app-vs gives the application nothing: it all goes to legacy"}},
		"NoSubset": {scene: scene(t, http(`{route: [{destination: {host: my-app-service}}]}`), ""),
			want: []string{"Warn http route 1 of VirtualService my-app-vs sends to the host without a subset"}},
		"Hash": {scene: scene(t, "", `spec: {host: my-app-service, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}, subsets: [{name: v1, labels: {version: v1}}]}`),
			want: []string{"Warn DestinationRule my-app-dest has a consistent hash: callers stay on one pod of a version, but each request chooses the version anew"}},
		"SomeCallersOnly": {scene: scene(t, "", `spec: {host: my-app-service, workloadSelector: {matchLabels: {a: b}}, subsets: [{name: v1, labels: {version: v1}}]}`),
			want: []string{"Warn DestinationRule my-app-dest is for some callers only (workloadSelector)"}},
		"TCP": {scene: scene(t, `spec: {hosts: [my-app-service], tcp: [{match: [{port: 3306}], route: [{destination: {host: my-app-service, subset: v1}}]}]}`, ""), steps: asks,
			want: []string{"Warn tcp route on port 3306 of VirtualService my-app-vs splits connections, not requests", "Refuse tcp route on port 3306 of VirtualService my-app-vs cannot serve a match step"}},
		"MatchOnARegex": {scene: scene(t, http(`{match: [{uri: {regex: "/a"}}], route: [`+toV1+`]}`), ""), steps: asks,
			want: []string{"Refuse http route 1 of VirtualService my-app-vs cannot serve a match step: the route matches paths by the regular expression"}},
		"MatchOfNobody": {scene: scene(t, http(`{match: [{uri: {exact: "/a"}}], route: [`+toV1+`]}`), ""), steps: asks,
			want: []string{"Warn http route 1 of VirtualService my-app-vs: no request that it takes is one that a match step asks for"}},
		"NeverReached": {scene: scene(t, http(`{name: all, match: [{uri: {prefix: /}}], redirect: {uri: /x}}, {route: [`+toV1+`]}`), ""),
			want: []string{`Warn http route 2 of VirtualService my-app-vs is never reached: http route "all" before it takes everything`}},
		"Faults": {scene: scene(t, http(`{fault: {abort: {httpStatus: 500}}, route: [`+toV1+`]}`), ""), want: []string{"Warn http route 1 of VirtualService my-app-vs injects faults"}},
		"Mirror": {scene: scene(t, http(`{mirror: {host: my-app-service, subset: v1}, route: [`+toV1+`]}`), ""), want: []string{"Warn a route of VirtualService my-app-vs mirrors to v1, and goes on to do so when v1 is retired"}},
		"GatewayOnly": {scene: scene(t, `spec: {hosts: [shop.example], gateways: [front], http: [{route: [`+toV1+`]}]}`, ""),
			want: []string{"Warn VirtualService my-app-vs is for front only: callers inside the mesh do not see the split"}},
		"AnotherHost": {scene: scene(t, `spec: {hosts: [shop.example], http: [{route: [`+toV1+`]}]}`, ""),
			want: []string{"Warn VirtualService my-app-vs answers for shop.example and not for my-app-service: callers of the Service's own name do not see the split"}},
		"Exported": {scene: scene(t, `spec: {hosts: [my-app-service], exportTo: ["."], http: [{route: [`+toV1+`]}]}`, ""),
			want: []string{"Warn VirtualService my-app-vs is seen from its own namespace only"}},
		"ExportedApart": {scene: scene(t, "", `spec: {host: my-app-service, exportTo: ["."], subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}`),
			want: []string{"Warn VirtualService my-app-vs is seen from everywhere and DestinationRule my-app-dest from its own namespace: where only the route is seen"}},
		"Delegates": {scene: scene(t, http(`{delegate: {name: gone}}, {delegate: {name: far, namespace: else}}, {route: [`+toV1+`]}`), "", func(s *Scene) {
			s.Delegates = delegatesOf(s.Root, "default")
			for i := range s.Delegates {
				s.Delegates[i].Foreign = s.Delegates[i].Namespace != "default"
			}
		}), want: []string{"Refuse VirtualService my-app-vs hands over to the VirtualService gone, which is not there", "Warn VirtualService my-app-vs hands over to far in else, which is not written from here"}},
		"DelegateWithHosts": {scene: scene(t, http(`{delegate: {name: d}}`), "", func(s *Scene) {
			s.Delegates = []Delegate{{Name: "d", Namespace: "default", Object: object(t, http(`{route: [`+toV1+`]}`))}}
		}), want: []string{"Refuse the delegate d has hosts of its own, so Istio does not take it for a delegate"}},
		"DelegateAndMatch": {scene: scene(t, `spec: {hosts: [my-app-service], http: [{match: [{uri: {prefix: /app}}], delegate: {name: d}}]}`, "", func(s *Scene) {
			s.Delegates = []Delegate{{Name: "d", Namespace: "default", Object: object(t, `spec: {http: [{route: [`+toV1+`]}]}`)}}
		}), steps: asks, want: []string{"Refuse a match step cannot be served by the delegate d: the route that hands over to it has a condition on the path"}},
		"DelegateUnderThePath": {scene: scene(t, `spec: {hosts: [my-app-service], http: [{match: [{uri: {prefix: /be}}], delegate: {name: d}}]}`, "", func(s *Scene) {
			s.Delegates = []Delegate{{Name: "d", Namespace: "default", Object: object(t, `spec: {http: [{route: [`+toV1+`]}]}`)}}
		}), steps: asks},

		// One Service for each version.
		"Hosts":       {scene: byHost(t, ownV1+ownV2, `{route: [{destination: {host: my-app-v1}}]}`), steps: weights},
		"HostsAtRest": {scene: byHost(t, ownV1, `{route: [{destination: {host: my-app-v1}}]}`, onlyV1), canary: none},
		"NoServiceOfItsOwn": {scene: byHost(t, ownV1, `{route: [{destination: {host: my-app-v1}}]}`),
			want: []string{"Refuse v2 has no Service of its own: no Service in default selects the pods with version=v2 and no others. Remedy: create one with version: v2 in its selector"}},
		"NeitherHasOne": {scene: byHost(t, `{name: my-app, app: my-app}`, `{route: [{destination: {host: my-app}}]}`),
			want: []string{"Refuse v1 has no Service of its own", "Refuse v2 has no Service of its own", "Warn http route 1 of VirtualService my-app-vs sends to a Service that selects the pods of all versions alike"}},
		"ForAllUntilTheNext": {scene: byHost(t, `{name: my-app, app: my-app}`, `{route: [{destination: {host: my-app}}]}`, onlyV1), canary: none,
			want: []string{"Warn Service my-app selects app=my-app and not version=v1: if the next version's pods have these labels too, it takes them in, and no route can tell them apart. Remedy: add version: v1 to its selector"}},
		"TheOneThatIsCalledLikeStables": {scene: byHost(t, ownV1+ownV2+`, {name: beta, version: v2}`, `{route: [{destination: {host: my-app-v1}}]}`)},
		"TwoWithoutAName": {scene: byHost(t, ownV1+`, {name: alpha, version: v2}, {name: beta, version: v2}`, `{route: [{destination: {host: my-app-v1}}]}`),
			want: []string{"Refuse which Service v2 is to be sent to is not clear: the Services alpha, beta all select the pods with version=v2, and none of them is called as my-app-v1 is. Remedy: leave one of them"}},
		"OwnServiceOfOtherPods": {scene: byHost(t, ownV1+`, {name: my-app-v2, version: v2, app: shop}`, `{route: [{destination: {host: my-app-v1}}]}`),
			want: []string{"Refuse Service my-app-v2 selects app=shop,version=v2, and the pods of v2 have app=my-app,version=v2: none of them is behind it"}},
		"OwnServiceOfNoPods": {scene: byHost(t, ownV1+`, {name: my-app-v2, version: v2, track: beta}`, `{route: [{destination: {host: my-app-v1}}]}`),
			want: []string{"Refuse Service my-app-v2 selects track=beta,version=v2, and the pods of v2 have version=v2: none of them is behind it"}},
		"OwnServiceIsGone": {scene: byHost(t, ownV2[2:], `{route: [{destination: {host: my-app-v1}, weight: 95}, {destination: {host: my-app-v2}, weight: 5}]}`),
			want: []string{"Refuse http route 1 sends to my-app-v1, and there is no such Service in default: its share is answered 503"}},
		"AnotherPort": {scene: byHost(t, ownV1+ownV2, `{route: [{destination: {host: my-app-v1, port: {number: 8080}}}]}`, func(s *Scene) {
			s.View.Services[1].Ports, s.View.Services[2].Ports = []int32{8080}, []int32{80}
		}), want: []string{"Refuse Service my-app-v2 has no port 8080, which http route 1 sends to"}},
		"APortLess": {scene: byHost(t, ownV1+ownV2, `{route: [{destination: {host: my-app-v1}}]}`, func(s *Scene) {
			s.View.Services[1].Ports, s.View.Services[2].Ports = []int32{80, 443}, []int32{80, 9090}
		}), want: []string{"Refuse Service my-app-v2 has no port 443"}},
		"TheOnlyPort": {scene: byHost(t, ownV1+ownV2, `{route: [{destination: {host: my-app-v1}}]}`, func(s *Scene) {
			s.View.Services[1].Ports, s.View.Services[2].Ports = []int32{80}, []int32{9090}
		})},
		"NobodyIsCalledThat": {scene: byHost(t, ownV1+ownV2, `{route: [{destination: {host: my-app-v1}}]}`, func(s *Scene) {
			s.View.Services = s.View.Services[1:]
		}), want: []string{"Warn VirtualService my-app-vs answers for my-app-service, and there is no such Service in default: callers in the mesh do not find it"}},
		"SubsetsWithoutARule": {scene: byHost(t, ownV1+ownV2, `{route: [`+toV1+`]}`),
			want: []string{"Refuse the routes of VirtualService my-app-vs name subsets (v1), and spec.traffic[].istio names no DestinationRule. Remedy: name it as destinationRule"}},
		"SomebodyElses": {scene: byHost(t, `{name: legacy, app: legacy, version: v1}`, `{route: [{destination: {host: legacy}}]}`),
			want: []string{"Refuse no route of VirtualService my-app-vs sends to a Service that selects one version by the label version; it sends to legacy. Remedy: give each version a Service of its own and route to stable's"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			canary := v2
			if c.canary != nil {
				canary = *c.canary
			}
			for _, f := range Findings(c.scene, v1, canary, c.steps) {
				if f.What == "" {
					t.Error("a finding that says nothing")
				}
				got = append(got, string(f.Level)+" "+f.What+". Remedy: "+f.Remedy)
			}
			ok := len(got) == len(c.want)
			for i := range min(len(got), len(c.want)) {
				ok = ok && strings.HasPrefix(got[i], c.want[i])
			}
			if !ok {
				t.Errorf("found\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
		})
	}
}
