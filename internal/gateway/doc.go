// Package gateway is the HTTP side of a node: health, readiness, metrics, the
// cluster as JSON, and Go's profiles when they are wanted.
//
//	GET /healthz       200 while the process answers and its loops turn
//	GET /readyz        200 when the node serves, else 503 and the reason
//	GET /leader        200 when the node is the winner, else 503
//	GET /replica?lag=10s  200 when it serves and its replicas are no further behind
//	GET /log/level     how much is logged; PUT changes it
//	GET /metrics       the node's metrics, in Prometheus' text format
//	GET /cluster.json  what the node knows of the cluster
//	GET /cluster/view  all that the node knows of the cluster
//	POST /cluster/verify  compares the cluster's replicas
//	GET /debug/pprof/  only with Options.Pprof
//	GET /, /ui/, /api/dashboard/  the dashboard: internal/dashboard
//
// With Options.Refiller, for raftsman backup restore:
//
//	GET  /partition/refill          ?topic=NAME&partition=N: RefillState
//	POST /partition/refill/begin    RefillRequest: an empty partition begins there
//	POST /partition/refill/batches  ?topic=NAME&partition=N&token=N: record batches
//	POST /partition/refill/end      RefillRequest: it takes records from producers
//	POST /producer-ids/floor        ProducerFloor
//
// With Options.Operator also, all in JSON:
//
//	GET  /health.json      what is wrong and what to do: a health.Report
//	GET  /nodes            all nodes, those that are away too: health.Node
//	GET  /partitions       ?topic=NAME&node=N: health.Partition
//	GET  /ops              operations, the oldest first: Operation
//	POST /ops              ask for one; 201 and the Operation with its id
//	GET  /ops/{id}
//	POST /ops/{id}/cancel  stop one
//	GET  /rebalance        {"paused":false}
//	PUT  /rebalance        switch the balancer
//
// # Errors
//
// An error of these is {"error":"…","remedy":"…"}: 400 a request that makes no
// sense, 403 from a web page, 404, 405, 409 an id that is taken, an operation
// that has ended or a partition that is not empty, 413, 415 not application/json,
// 421 another node leads the partition, 503 with Retry-After while etcd
// is away or the metadata frozen. After a 503 the change may have been made or
// not: ask again under the same id.
//
// # Web pages
//
// A browser on the operator's machine reaches this port on behalf of any page
// that is open in it. Nothing here is made for pages, so what changes something
// needs Content-Type: application/json (application/octet-stream for batches), which other origins can't send without
// being asked first, and no Origin or Sec-Fetch-Site header, which all browsers
// send and pages can't leave out (also not after DNS rebinding).
//
// Every request and response is bounded in time and size, so that a client that
// stalls holds a connection and nothing else; a verification lasts as long as it
// needs, and ends when nobody takes its lines any more.
package gateway
