// Package election lets the instances of a service share one etcd lease each,
// register themselves under it, and elect one of them, the winner, whose
// commands can be fenced end to end.
//
// # Session
//
// A [Session] is a lease that this process keeps alive itself: every third of
// its TTL it asks the Healthy function and, if that agrees, renews. So an
// instance which is alive but useless loses its keys like a dead one. The
// session's deadline counts from before the renewal was sent, on the local
// monotonic clock, and is therefore never later than etcd's own. When it
// passes without a renewal the session is over, whatever etcd may answer
// afterwards. The lease's keys may outlive the session for a moment; the
// session never outlives them, except while the process itself is stopped.
//
// # Register
//
// [Session.Register] writes a key under the lease and refuses one that exists
// under another lease, with a [HeldError] that says what is in it: that is how
// a second instance with the same name learns the address of the first.
//
// # Campaign
//
// [Campaign] uses etcd's concurrency.Election, so that the keys are those
// which etcdctl elect understands: <name>/<lease in hex>, and the lowest
// create revision is the winner. Three things that have happened to its users
// are guarded against:
//
//   - Election.Campaign reports success without a key when the lease expired
//     while it waited. The campaign is raced against the end of the session,
//     and the own key and its create revision are read back before the victory
//     is believed.
//   - A winner whose key was deleted by hand goes on leading beside the next
//     one. The own key is watched; without it there is no leadership.
//   - Election.Resign forgets that it led even when it failed, and the key
//     stays. Here a resignation is repeated until the key or the lease is gone.
//
// # Fencing
//
// A [Leadership] ends (its context is cancelled) with the session, with its
// key, or by resignation, and [Leadership.Valid] compares the deadline with
// the clock. Neither can stop a process which is paused between the check and
// the act. What makes it safe is the [Token]: every command of the winner is
// an etcd transaction which also compares the create revision of the
// winner's key (Token.Compare), and etcd refuses it once the key is gone. The
// local clock makes a loser stop early; etcd makes it stop for certain.
//
// # Client settings
//
// A renewal is given a quarter of the TTL and then tried again, on another
// endpoint if there is one. Set DialKeepAliveTime and DialKeepAliveTimeout of
// the client to at most TTL/3. grpc-go raises the former to 10 s; the latter
// is also TCP_USER_TIMEOUT, and with it a connection which no longer
// acknowledges what was sent breaks in time.
//
// # Goroutines
//
// A Session owns every goroutine which was started on its behalf, campaigns
// and leaderships included; [Session.Close] waits for them. [Run] owns its
// sessions.
package election
