package kafka

// What a client names more than once in a request is answered once, wherever the
// answer is longer than the question: a request of a few megabytes could otherwise
// ask for the same thing a quarter of a million times, and for as many gigabytes.

// once is what was named before.
type once[K comparable] map[K]struct{}

// first says whether k was not named before.
func (o once[K]) first(k K) bool {
	if _, again := o[k]; again {
		return false
	}
	o[k] = struct{}{}
	return true
}

// distinct returns what is named, in order, without what was named before.
func distinct[T any, K comparable](named []T, by func(T) K) []T {
	seen := make(once[K], len(named))
	out := named[:0:0]
	for _, x := range named {
		if seen.first(by(x)) {
			out = append(out, x)
		}
	}
	return out
}
