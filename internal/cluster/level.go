package cluster

// Level is what this program understands, as its nodes register it. What an older
// program can't read (a new kind of entry, say) gets the next number, and is used
// only when all registered nodes have it.
const Level = LevelRefill

// Levels, each with what came before. Programs that register none are at 0.
const (
	LevelRefill = 1 // entries that fill a partition from a backup
)

// Lowest is the lowest level of the registered nodes, and one of the nodes that have
// it. Without a node it is 0.
func (v *View) Lowest() (level int, node int32) {
	for i, id := range v.NodeIDList() {
		if n := v.Nodes[id]; i == 0 || n.Level < level {
			level, node = n.Level, id
		}
	}
	return level, node
}
