// Package lab runs a real Kubernetes and a real Istio for tests, on one
// machine, without containers.
//
// # Nouns
//
// The tools are the programs that a cluster is made of: etcd, kube-apiserver,
// kube-controller-manager, KWOK, istiod, Prometheus (Debian's). They are built
// from their published Go modules and kept in test/cluster/.bin ([Build]).
//
// The space is a network, process and mount namespace of its own ([Enter]): this
// program starts itself again in it. In it every address of 10.77.0.0/16 is
// local, so that each pod's address can be listened on and dialled.
//
// A [Cluster] is the tools, running. KWOK gives pods an address and takes
// deleted ones away; this package does what a kubelet and its containers would:
// it listens on each pod's address, answers as the pod's version ([Behaviour]),
// counts under Istio's metric names and reports readiness.
//
// [Traffic] is a stream of gRPC calls that istiod itself routes: grpc-go as
// Istio's data plane, in a process of its own.
//
// # Invariants
//
//   - Nothing outlives the program: the space dies with its first process.
//   - Several clusters may run side by side; none touches the machine's network.
//   - What both ends of a call wrote down is compared, not believed: the pod's
//     log has every call that reached it, the client's every call that ended.
//
// # What it does not show
//
// Envoy and its own metrics, metrics-server, a kubelet's probes and evictions,
// the scheduler (a MutatingAdmissionPolicy names the node).
//
// # Example
//
//	func TestMain(m *testing.M) {
//		lab.Main(func(ctx context.Context, tools lab.Tools) int {
//			c, err := lab.Start(ctx, tools, lab.Options{})
//			if err != nil { ... }
//			defer c.Stop()
//			return m.Run()
//		})
//	}
package lab
