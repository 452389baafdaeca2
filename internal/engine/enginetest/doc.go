// Package enginetest holds what the engine's ports must keep: a conformance
// suite for each of them, and small implementations in memory that pass it.
//
// An adapter's test hands in a factory and gets every case:
//
//	func TestConformance(t *testing.T) {
//		enginetest.TestStore(t, func(t *testing.T) enginetest.StoreFixture { ... })
//	}
//
// The implementations in memory are whole: they count requests, start replicas
// after a while, refuse stale writes. [World] puts them on one virtual clock
// and one [Faults], which may strike before and after every call of a port.
package enginetest
