package group

// addSubscription adds the topics that a consumer subscribes to, as it said when
// it joined, to a set. It returns false if that can't be read: the protocol's
// metadata is the clients' own affair and may be anything.
func addSubscription(topics map[string]struct{}, metadata []byte) bool {
	r := reader{src: metadata}
	if r.int16() < 0 {
		return false
	}
	for n := r.count(2); n > 0 && r.err == nil; n-- {
		topic := r.rawString()
		if _, have := topics[string(topic)]; !have && r.err == nil {
			topics[string(topic)] = struct{}{}
		}
	}
	r.bytes() // user data; later versions have more after it
	return r.err == nil
}
