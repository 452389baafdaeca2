package controller

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// about is what one Rollout is about, as far as objects have to be told apart.
type about struct {
	selector labels.Selector // of the pod templates of its versions
	routes   []types.NamespacedName
	rules    []types.NamespacedName
	services []types.NamespacedName
	// byService: versions are told apart by Services of their own; one that is new
	// may be a version's.
	byService bool
}

// index says which Rollouts an object is about.
type index struct {
	mu  sync.RWMutex
	all map[string]map[types.NamespacedName]about // by namespace
}

func newIndex() *index { return &index{all: map[string]map[types.NamespacedName]about{}} }

// set says what a Rollout is about from now on. Services that are not known are
// kept as they were.
func (x *index) set(key types.NamespacedName, a about) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.all[key.Namespace] == nil {
		x.all[key.Namespace] = map[types.NamespacedName]about{}
	}
	if a.services == nil {
		a.services = x.all[key.Namespace][key].services
	}
	x.all[key.Namespace][key] = a
}

func (x *index) drop(key types.NamespacedName) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.all[key.Namespace], key)
	if len(x.all[key.Namespace]) == 0 {
		delete(x.all, key.Namespace)
	}
}

func (x *index) find(namespace string, concerns func(about) bool) []types.NamespacedName {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []types.NamespacedName
	for key, a := range x.all[namespace] {
		if concerns(a) {
			out = append(out, key)
		}
	}
	return out
}

// everywhere is find without the bound of a namespace: a route may name a
// Service in another one.
func (x *index) everywhere(concerns func(about) bool) []types.NamespacedName {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []types.NamespacedName
	for _, in := range x.all {
		for key, a := range in {
			if concerns(a) {
				out = append(out, key)
			}
		}
	}
	return out
}

func (x *index) byPodLabels(namespace string, l map[string]string) []types.NamespacedName {
	return x.find(namespace, func(a about) bool { return a.selector != nil && a.selector.Matches(labels.Set(l)) })
}

func (x *index) byRoute(key types.NamespacedName) []types.NamespacedName {
	return x.find(key.Namespace, func(a about) bool { return slices.Contains(a.routes, key) })
}

func (x *index) byRule(key types.NamespacedName) []types.NamespacedName {
	return x.find(key.Namespace, func(a about) bool { return slices.Contains(a.rules, key) })
}

func (x *index) byService(key types.NamespacedName) []types.NamespacedName {
	return x.everywhere(func(a about) bool { return slices.Contains(a.services, key) })
}

// byNewService is byService for one that nobody may have heard of.
func (x *index) byNewService(key types.NamespacedName) []types.NamespacedName {
	out := x.byService(key)
	for _, more := range x.find(key.Namespace, func(a about) bool { return a.byService }) {
		if !slices.Contains(out, more) {
			out = append(out, more)
		}
	}
	return out
}
