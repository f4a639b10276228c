// Package clients runs real Kafka clients against real nodes. It is a module of
// its own, so that what the clients need is no dependency of the product.
//
//	agent/            each client in a process of its own, told by a line of JSON what to do
//	python/           the same protocol for clients in Python
//	cluster_test.go   three nodes and etcd as processes
//	drive_test.go     starting agents, and what they said
//	matrix_test.go    clients × features: the table in docs/kafka-compatibility.md
//	features_test.go  what a client does alone; admin_test.go, group_test.go: the others
//	failover_test.go  every client while every node is killed once
//	churn_test.go     ten members of three clients, killed, paused and added
//	scale_test.go     many topics and groups, by the admin calls of two clients
//	record_test.go    what the clients send, kept for the fuzzer (make record-requests)
//
// `make test-clients` runs it.
package clients
