package manifest

import (
	"bytes"
	"os"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

func read(t testing.TB, name string) (report FileReport, groups []uint64, damages []*DamageError) {
	t.Helper()
	report, err := Read(vfs.OS, name, Visitor{
		Record: func(r Record) error { groups = append(groups, r.Group); return nil },
		Damage: func(d *DamageError) error { damages = append(damages, d); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return report, groups, damages
}

// TestReadBehindDamage flips each byte of a file of three records: the damage is
// named and the other records are shown.
func TestReadBehindDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	begin := s.end
	put(t, s, 1, 1, []byte("first"))
	put(t, s, 2, 1, []byte("second"))
	last := s.end
	put(t, s, 3, 1, []byte("third"))
	s.Close()
	name := onlyFile(t, dir)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for at := range int64(len(whole)) {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r, groups, damages := read(t, name)
		switch {
		case at < begin && (len(damages) != 1 || damages[0].Offset != 0 || len(groups) != 3):
			t.Fatalf("byte %d of the header flipped: %v, damages %v", at, groups, damages)
		case at >= begin && at < last && (len(damages) != 1 || damages[0].Offset > at || len(groups) != 2):
			t.Fatalf("byte %d flipped: %v, damages %v", at, groups, damages)
		case at >= last && (len(damages) > 0 || r.Torn == "" || r.End != last || len(groups) != 2):
			t.Fatalf("byte %d of the last record flipped: %+v, %v, damages %v", at, r, groups, damages)
		}
	}
}
