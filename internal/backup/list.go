package backup

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Listed is a backup in a place.
type Listed struct {
	ID       string `json:"id"`
	Complete bool   `json:"complete"`
	// Manifest is what it says; a plan if it is not complete. It is nil for List.
	Manifest *Manifest `json:"-"`
	// Err says why it can't be read.
	Err error `json:"-"`

	name   string
	sha256 string
}

// List finds the backups in a place, oldest first. It reads none of them.
func List(ctx context.Context, place Place) (all []Listed, err error) {
	found := make(map[string]*Listed)
	err = place.List(ctx, "backups/", func(name string, _ int64) error {
		elements := strings.Split(name, "/")
		if len(elements) != 3 || !validID(elements[1]) {
			return nil
		}
		kind, sha256, ok := parseDocument(path.Base(name))
		if !ok || kind != "plan" && kind != "manifest" {
			return nil
		}
		l := found[elements[1]]
		if l == nil {
			l = &Listed{ID: elements[1]}
			found[l.ID] = l
		}
		switch complete := kind == "manifest"; {
		case l.name != "" && complete == l.Complete:
			l.Err = &DamageError{Object: name, Reason: "there are two of them"}
		case complete || !l.Complete:
			l.Complete, l.name, l.sha256 = complete, name, sha256
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for backups in %s: %w", place, err)
	}
	for _, l := range found {
		all = append(all, *l)
	}
	slices.SortFunc(all, func(a, b Listed) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// Describe is List with the manifests read; what is wrong with one is in its Err.
func Describe(ctx context.Context, place Place) ([]Listed, error) {
	all, err := List(ctx, place)
	for i := range all {
		if m, err := readManifest(ctx, place, all[i]); err != nil {
			all[i].Err = err
		} else {
			all[i].Manifest = &m
		}
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
	}
	return all, err
}

// Find returns a complete backup by its id; "" is the newest.
func Find(ctx context.Context, place Place, id string) (m Manifest, err error) {
	all, err := List(ctx, place)
	if err != nil {
		return m, err
	}
	for _, l := range slices.Backward(all) {
		switch {
		case id == "" && l.Complete || l.ID == id && l.Complete:
			return readManifest(ctx, place, l)
		case l.ID == id:
			return m, fmt.Errorf("backup %s in %s was interrupted: raftsman backup create goes on with it", id, place)
		}
	}
	if id == "" {
		return m, fmt.Errorf("there is no complete backup in %s", place)
	}
	return m, fmt.Errorf("there is no backup %s in %s: raftsman backup list shows those there are", id, place)
}

func readManifest(ctx context.Context, place Place, l Listed) (m Manifest, err error) {
	if l.Err != nil {
		return m, l.Err
	}
	b, err := getNamed(ctx, place, l.name, l.sha256, maxDocument)
	if err != nil {
		return m, err
	}
	m, err = DecodeManifest(b)
	if err == nil && (m.ID != l.ID || m.Complete() != l.Complete) {
		err = fmt.Errorf("it is that of backup %s", m.ID)
	}
	if err != nil {
		return m, fmt.Errorf("%s: %w", l.name, err)
	}
	return m, nil
}
