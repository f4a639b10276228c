package group

// state is the state of a group. The names are Kafka's and part of the protocol.
type state uint8

const (
	// empty: no members. Offsets may be committed without a generation.
	empty state = iota
	// preparing: a rebalance has begun and waits for members to join.
	preparing
	// completing: the members of the generation are known; the leader's
	// assignment has not come yet, or is being stored.
	completing
	// stable: every member has an assignment, or may ask for it.
	stable
	// dead: the group is being deleted; its tombstones are on their way.
	dead
)

var stateNames = [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"}

func (s state) String() string { return stateNames[s] }
