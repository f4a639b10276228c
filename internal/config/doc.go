// Package config knows Kafka's configurations of topics and brokers: their
// names, types, defaults and valid values, and which of several values counts.
// It is pure: no clock, no etcd, no log.
//
// A topic's configuration has layers. What was set for the topic counts first;
// then what was set for brokers under the name of the topic configuration's
// broker synonym, for one broker, for all of them, and by flags; then the
// default. Retention is the longest example:
//
//	retention.ms of the topic             DYNAMIC_TOPIC_CONFIG
//	log.retention.ms, .minutes, .hours    DYNAMIC_BROKER_CONFIG          of one node
//	the same                              DYNAMIC_DEFAULT_BROKER_CONFIG  of all nodes
//	the same                              STATIC_BROKER_CONFIG           flags
//	log.retention.hours=168               DEFAULT_CONFIG
//
// Names, types, valid values, synonyms and the words of errors are those of
// Kafka 4 (org.apache.kafka.storage.internals.log.LogConfig, ServerConfigs).
// What Kafka would take and this server could not keep is refused; what has no
// effect here, by design, is taken, and says so in Def.Inert.
package config
