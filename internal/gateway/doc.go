// Package gateway is the HTTP side of a node: health, readiness, metrics, the
// cluster as JSON, and Go's profiles when they are wanted.
//
//	GET /healthz       200 while the process answers
//	GET /readyz        200 when the node serves, else 503 and the reason
//	GET /metrics       the node's metrics, in Prometheus' text format
//	GET /cluster.json  what the node knows of the cluster
//	GET /debug/pprof/  only with Options.Pprof
//
// All are read-only. Every request and response is bounded in time and size, so
// that a client that stalls holds a connection and nothing else.
package gateway
