package health

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// examples is how many of a list a sentence names.
const examples = 3

// group gathers partitions with the same cause, in the order of their first.
type group struct {
	cause, do  string
	nodes      []int32
	partitions []*Partition
}

type groups []*group

// add puts a partition to the others with the same nodes and cause.
func (g *groups) add(p *Partition, cause, do string, nodes ...int32) {
	nodes = slices.Sorted(slices.Values(nodes))
	for _, have := range *g {
		if have.cause == cause && slices.Equal(have.nodes, nodes) {
			have.partitions = append(have.partitions, p)
			return
		}
	}
	*g = append(*g, &group{cause: cause, do: do, nodes: nodes, partitions: []*Partition{p}})
}

// names returns all partitions of a group as topic/partition.
func (g *group) names() []string {
	all := make([]string, len(g.partitions))
	for i, p := range g.partitions {
		all[i] = p.TP().String()
	}
	return all
}

// count says how many partitions of how many topics.
func (g *group) count() string {
	topics := make(map[string]bool)
	for _, p := range g.partitions {
		topics[p.Topic] = true
	}
	if len(topics) == 1 {
		return plural(len(g.partitions), "partition")
	}
	return fmt.Sprintf("%s of %d topics", plural(len(g.partitions), "partition"), len(topics))
}

// some names the first few of a list.
func some(names []string) string {
	if len(names) <= examples {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s, … %d more", strings.Join(names[:examples], ", "), len(names)-examples)
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// named says "node 1", "nodes 1 and 2", "nodes 1, 2 and 3".
func named(nodes []int32) string {
	texts := make([]string, len(nodes))
	for i, n := range nodes {
		texts[i] = fmt.Sprint(n)
	}
	switch len(texts) {
	case 0:
		return "no node"
	case 1:
		return "node " + texts[0]
	}
	return "nodes " + strings.Join(texts[:len(texts)-1], ", ") + " and " + texts[len(texts)-1]
}

// Span shows a duration as people say it: 45s, 4m, 3h20m, 2d5h.
func Span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 90*time.Second:
		return fmt.Sprintf("%ds", int(d.Round(time.Second).Seconds()))
	case d < 90*time.Minute:
		return fmt.Sprintf("%dm", int(d.Round(time.Minute).Minutes()))
	case d < 48*time.Hour:
		m := int(d.Round(time.Minute).Minutes())
		return trimZero(fmt.Sprintf("%dh%dm", m/60, m%60), "0m")
	}
	h := int(d.Round(time.Hour).Hours())
	return trimZero(fmt.Sprintf("%dd%dh", h/24, h%24), "0h")
}

func trimZero(s, zero string) string {
	rest, ok := strings.CutSuffix(s, zero)
	if ok && strings.ContainsAny(rest[len(rest)-1:], "hd") {
		return rest
	}
	return s // 3h20m ends in 0m too
}

// Size shows bytes as people say them, in binary units.
func Size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 || v >= 10 {
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
