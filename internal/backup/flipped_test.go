package backup

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testcluster"
)

// testFlipped flips bytes at random places: a restore is refused and says where, and
// goes on when the byte is right again.
func testFlipped(t *testing.T, place *watched, source *kgo.Client, into *testcluster.Cluster, m Manifest) {
	ctx := t.Context()
	client := into.Client()
	r := rand.New(rand.NewPCG(3, 4))
	var objects []string
	err := place.List(ctx, "", func(name string, _ int64) error {
		if strings.HasPrefix(name, "backups/"+m.ID) && !strings.Contains(name, "/plan-") || strings.HasPrefix(name, "data/") && strings.Contains(name, m.Topics[2].ID) {
			objects = append(objects, name)
		}
		return nil
	})
	if err != nil || m.Topics[2].Name != "orders" || len(objects) < 10 {
		t.Fatalf("%d objects of %s, %v", len(objects), m.Topics[2].Name, err)
	}
	opts := RestoreOptions{Topics: []string{"orders"}, Rename: map[string]string{"orders": "flipped"}, NoGroups: true}
	restore := func() error {
		m, err := Find(ctx, place, m.ID)
		if err == nil {
			_, err = Restore(ctx, place, m, client, caller(into), opts)
		}
		return err
	}
	refused := 0
	for i := range 12 {
		name := objects[r.IntN(len(objects))]
		if i == 0 {
			name = objects[len(objects)-1] // not all of it is restored by then
		}
		good, err := place.Place.Get(ctx, name, maxObject)
		if err != nil {
			t.Fatal(err)
		}
		at := r.IntN(len(good))
		bad := slices.Clone(good)
		bad[at] ^= 0x10
		if err := place.Place.Put(ctx, name, bad); err != nil {
			t.Fatal(err)
		}
		var found []*DamageError
		var damage *DamageError
		have, err := Find(ctx, place, m.ID)
		if errors.As(err, &damage) {
			found = append(found, damage)
		} else if err := Verify(ctx, place, have, VerifyOptions{Damage: func(d *DamageError) { found = append(found, d) }}); err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || found[0].Object != name || int64(at) < found[0].From || int64(at) >= found[0].To {
			t.Errorf("byte %d of %s was flipped: %v", at, name, found)
		}
		if strings.HasPrefix(name, "data/") && (found[0].Topic != "orders" || found[0].Next <= found[0].First) {
			t.Errorf("byte %d of %s was flipped: %+v", at, name, found[0])
		}
		if i < 3 { // later ones may be restored by then
			if err := restore(); errors.As(err, &damage) && damage.Object == name {
				refused++
			} else if err != nil {
				t.Errorf("byte %d of %s was flipped: %v", at, name, err)
			}
		}
		if err := place.Place.Put(ctx, name, good); err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("no restore was refused")
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	compare(t, "flipped", read(t, client, "flipped", nil), read(t, source, "orders", endsOf(m, "orders")))
}
