// Package grafana holds a dashboard (serin.json) and alert rules (alerts.yaml)
// that work on the metrics of both hosts. It has no code: its tests parse every
// query and run it against what a real Serin exported, in a real Prometheus.
package grafana
