package partition

const (
	// smallSegment is the least segment.bytes of Kafka 4. Before that it was 14, and
	// clients' tests set some hundred bytes to have segments sealed and compacted.
	smallSegment = 1 << 20
	// fewSegments may be as small as the topic wants. Each costs a file, and a line
	// in each manifest.
	fewSegments = 256
	// segmentStep is how many more there may be before the next ones are twice as
	// large, from leastSegment on.
	segmentStep  = 32
	leastSegment = 1 << 10
	// smallEntry is how many batches an entry has at most where segments are small:
	// each may begin a segment, and only the next entry can say that they are to be
	// larger.
	smallEntry = 256
)

// segmentBytes is the size at which new segments begin, where there are so many
// already and the topic wants another size. Some hundred small ones are all there
// ever are.
func segmentBytes(want int64, segments int) int64 {
	if want >= smallSegment || segments < fewSegments {
		return want
	}
	steps := min((segments-fewSegments)/segmentStep, 10)
	return max(want, leastSegment<<steps)
}

// segmentBytes is what this leader's entries are to say.
func (p *Partition) segmentBytes() int64 {
	p.mu.Lock()
	log, want := p.log, p.settings.SegmentBytes
	p.mu.Unlock()
	if log == nil || want >= smallSegment {
		return want
	}
	return segmentBytes(want, log.Segments())
}
