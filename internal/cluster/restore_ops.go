package cluster

import "slices"

// interrupted is the reason of operations that a restore ends.
const interrupted = "the metadata was restored from the nodes' views while it was not done: look where things are, and ask again"

// settings are the keys that say what operators want: the newest view's wishes,
// brokers' configurations and switch, and wishes that a view of another history adds, for a node that
// was decommissioned shall not be filled again. Operations that ended stay to be
// read. Others fail, because nobody knows what was done of them since, unless
// they are in an etcd that nothing is wrong with.
func (r *restorer) settings(out map[string][]byte) error {
	base := r.views[0]
	for rel, it := range base.pic.items {
		switch parseKey(rel).kind {
		case kindWish, kindRebalance, kindBrokerConfig:
			out[rel] = it.value
		case kindOp:
			value, err := r.operation(rel, it.value)
			if err != nil {
				return err
			}
			out[rel] = value
		}
	}
	for _, w := range r.views[1:] {
		for rel, it := range w.pic.items {
			if _, known := out[rel]; known || parseKey(rel).kind != kindWish || r.follows(w) {
				continue
			}
			r.differ("%s (%s) is known to %s, whose history differs: it is kept", rel, it.value, w.who())
			out[rel] = it.value
		}
	}
	return nil
}

// operation is what becomes of one.
func (r *restorer) operation(rel string, value []byte) ([]byte, error) {
	op, err := decode(value, (*Op).check)
	if err != nil || op.State.Final() || r.plan.Well {
		return value, nil
	}
	r.differ("%s (%s) was not done: it fails", rel, op.Kind)
	op.State, op.Reason = OpFailed, interrupted
	if op.Progress != nil {
		p := *op.Progress
		p.EstimateSeconds = 0
		op.Progress = &p
	}
	return Encode(op)
}

// restoreOrder is the order in which kinds of keys are written: numbers first,
// since they are what must never be forgotten.
var restoreOrder = []keyKind{
	kindProducerIDs, kindReplicaIDs, kindNodeIDs, kindDeleted, kindTopic, kindAssignment,
	kindWish, kindRebalance, kindBrokerConfig, kindOp, kindOther,
}

func writtenAt(rel string) int { return slices.Index(restoreOrder, parseKey(rel).kind) }
