// Package install holds the tests of what is installed: the CRDs, the roles and
// the admission policies of config/, against a real API server
// (KUBEBUILDER_ASSETS names the folder with etcd and kube-apiserver), and what
// can be said of them without one.
package install
