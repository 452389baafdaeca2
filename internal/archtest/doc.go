// Package archtest states who may import whom, each ban with its reason, and
// checks it. Imports run downwards only:
//
//	analysis, rollout (standard library only), strictyaml, api
//	  < engine, gateway, manifest, record
//	  < adapters (router/*, workload/*, metric/*, store/*, hook), never a sibling
//	  < httpapi, telemetry (what is told of rollouts)
//	  < hosts (daemon, controller)
//	  < cli, cmd
//
// It has no code of its own, only the test.
package archtest
