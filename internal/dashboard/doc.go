// Package dashboard is the page on a node's HTTP port that shows the cluster to
// people, and the data beneath it.
//
//	GET /                        the page
//	GET /ui/...                  its views: the same page, which looks at the path
//	GET /ui/static/...           its parts
//	GET /api/dashboard/events    all that the page shows, as it changes: server-sent events
//	GET /api/dashboard/state     the same, once
//	GET /api/dashboard/figures   what this node measures of itself, for the other nodes
//	GET /api/dashboard/offsets   ?topic=NAME: where its partitions begin and end
//	GET /api/dashboard/groups    consumer groups with their lag
//	GET /api/dashboard/group     ?name=NAME: one of them, with members and partitions
//	GET /api/dashboard/records   ?topic=NAME&partition=N&count=N: a topic's last records
//
// # What it costs
//
// The state is put together once for all who watch, at most each 250 ms, in a
// twentieth of the time if that makes one each 2.5 s possible, and not at all while nobody watches. It is made of
// items with a key each: a message holds those that have changed since the one
// before. Who does not take the messages in time gets the whole state with the
// next one. While somebody watches, each other node is asked for its figures once
// a second. What needs the Kafka protocol (offsets, groups, records) is asked
// for when a page wants it, bounded, and shared for a second by all that want the
// same.
//
// # What it claims
//
// Each message says when it was made, each node's figures say when they were
// measured, and why there are none since. Nothing that is old is shown as new.
package dashboard
