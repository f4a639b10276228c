package node

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/vfs"
)

// counter hands out blocks as etcd does, while it is there.
type counter struct {
	next int64
	away bool
}

func (c *counter) alloc(_ context.Context, n int64) (int64, error) {
	if c.away {
		return 0, errors.New("etcd is away")
	}
	first := c.next
	c.next += n
	return first, nil
}

func openIDs(fsys vfs.FS, c *counter) *producerIDs {
	p := &producerIDs{
		fs: fsys, dir: "d", id: identity.Identity{ClusterID: "c", NodeID: 1, Incarnation: "i"},
		alloc: c.alloc, log: slog.New(slog.DiscardHandler),
	}
	p.load()
	return p
}

// TestProducerIDsAreNeverGivenTwice takes ids through crashes at any moment, with
// and without etcd: none comes twice, and there are some while etcd is away.
func TestProducerIDsAreNeverGivenTwice(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("RAFTSMAN_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("RAFTSMAN_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	fsys := vfs.NewMem()
	if err := errors.Join(fsys.MkdirAll("d"), fsys.SyncDir("")); err != nil {
		t.Fatal(err)
	}
	c := &counter{next: 1}
	given := map[int64]bool{}
	for life := range 60 {
		p := openIDs(fsys, c)
		c.away = life > 0 && life%3 > 0
		fsys.ArmCrash(10 + rnd.Int64N(20))
		for range rnd.IntN(600) {
			id, err := p.take(t.Context())
			if errors.Is(err, vfs.ErrCrashed) {
				break
			}
			if err != nil {
				t.Fatalf("life %d, etcd away %v: %v", life, c.away, err)
			}
			if given[id] {
				t.Fatalf("life %d: id %d was given out before", life, id)
			}
			given[id] = true
		}
		p.close()
		if e := p.end(); e > c.next {
			t.Fatalf("it says that it holds ids up to %d, and %d is the next", e, c.next)
		}
		fsys.Crash(rnd)
	}
	if len(given) < 1000 {
		t.Fatalf("only %d ids", len(given))
	}
}

// TestProducerReserveOfAnother is not used, nor one that makes no sense.
func TestProducerReserveOfAnother(t *testing.T) {
	for _, text := range []string{
		`{"cluster_id":"c","node":2,"incarnation":"i","blocks":[{"next":5,"end":900}]}`,
		`{"cluster_id":"c","node":1,"incarnation":"i","blocks":[{"next":5,"end":4}]}`,
		`{"cluster_id":"c","node":1,"incarn`, ``,
	} {
		fsys := vfs.NewMem()
		if err := fsys.MkdirAll("d"); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFileAtomic(fsys, "d/"+producerFile, []byte(text)); err != nil {
			t.Fatal(err)
		}
		c := &counter{next: 1000}
		if id, err := openIDs(fsys, c).take(t.Context()); err != nil || id != 1000 {
			t.Errorf("%s: id %d, %v", text, id, err)
		}
	}
}

// TestProducerIDFloor: below it nothing is given out any more, of what is in reserve,
// of what is on its way, and after a restart.
func TestProducerIDFloor(t *testing.T) {
	fsys := vfs.NewMem()
	if err := errors.Join(fsys.MkdirAll("d"), fsys.SyncDir("")); err != nil {
		t.Fatal(err)
	}
	c := &counter{next: 1}
	p := openIDs(fsys, c)
	take := func() int64 {
		t.Helper()
		id, err := p.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	take()
	p.close()
	if err := p.skip(producerBlock + 7); err != nil {
		t.Fatal(err)
	}
	if id := take(); id != producerBlock+7 {
		t.Errorf("got %d, want the floor", id)
	}
	p.mu.Lock()
	p.reserve = append([]idBlock{{5, 50}}, p.reserve...) // what came late
	p.ready = idBlock{}
	p.mu.Unlock()
	if id := take(); id <= producerBlock+7 {
		t.Errorf("got %d, below the floor", id)
	}
	p.close()
	p = openIDs(fsys, c)
	if id := take(); id <= producerBlock+7 {
		t.Errorf("after a restart got %d, below the floor", id)
	}
	if err := p.skip(3); err != nil { // lower than what was given out
		t.Fatal(err)
	}
	if id := take(); id <= producerBlock+8 {
		t.Errorf("after a lower floor got %d", id)
	}
	p.close()
}
