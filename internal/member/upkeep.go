package member

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/embed"
)

const (
	upkeepEvery = 5 * time.Second
	upkeepSoon  = 500 * time.Millisecond // while something is under way
	lockTTL     = 10                     // seconds
	tellAfter   = time.Minute            // that something is in the way
)

var errBeingAdded = errors.New("another node is being added to etcd; if that one is gone for good, remove it: etcdctl member list, etcdctl member remove ID")

// Run extends etcd by this node while it has less than three members, has its own
// member promoted, and keeps the record true, until ctx ends. For clusters that run
// their own etcd. It returns an error when the member has stopped by itself.
func (m *Membership) Run(ctx context.Context) error {
	cli, err := m.client()
	if err != nil {
		return err
	}
	defer cli.Close()
	next := time.NewTimer(0)
	defer next.Stop()
	blocked := time.Time{}
	for {
		m.mu.Lock()
		e := m.etcd
		m.mu.Unlock()
		var failed <-chan error
		var stopped <-chan struct{}
		if e != nil {
			failed, stopped = e.Err(), e.Server.StopNotify()
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("etcd: %w", err)
		case <-stopped:
			if err := m.whyStopped(ctx, cli); err != nil {
				return err
			}
			continue
		case <-next.C:
		}
		busy, err := m.upkeep(ctx, cli)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			blocked = time.Time{}
		case blocked.IsZero():
			blocked = time.Now()
			m.log.Debug("upkeep of etcd's members", "err", err)
		case time.Since(blocked) > tellAfter:
			blocked = time.Now()
			m.log.Warn("etcd's members can't be kept up; trying on", "err", err)
		}
		if busy {
			next.Reset(upkeepSoon)
		} else {
			next.Reset(upkeepEvery)
		}
	}
}

// upkeep does one thing at a time; busy says that there is more to come soon.
func (m *Membership) upkeep(ctx context.Context, cli *clientv3.Client) (busy bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r, _ := m.Record()
	list, err := cli.MemberList(ctx)
	if err != nil {
		return false, fmt.Errorf("list etcd's members: %w", err)
	}
	if err := m.follow(cli, list.Members); err != nil {
		return false, err
	}
	leave, retired := m.wishes()
	for _, one := range list.Members {
		if one.Name != "" && slices.Contains(retired, one.Name) {
			return true, m.retire(ctx, cli, one, voters(list.Members))
		}
	}
	mine := find(list.Members, r.Member, m.peerURLText())
	switch {
	case leave && r.Member == "":
		return false, nil
	case r.Member == "" && voters(list.Members) >= wanted && mine == nil:
		return false, nil
	case mine == nil && voters(list.Members) < len(list.Members):
		return false, errBeingAdded
	case r.Member == "" || !m.running():
		err := m.extend(ctx, cli)
		return err == nil, err
	case mine == nil:
		return false, fmt.Errorf("etcd has no member %s", r.Member) // it will stop by itself
	case mine.IsLearner:
		if _, err := cli.MemberPromote(ctx, mine.ID); errors.Is(err, rpctypes.ErrMemberNotLearner) {
			return true, nil
		} else if err != nil { // most often it has not caught up yet
			return true, fmt.Errorf("promote this node's member of etcd: %w", err)
		}
		m.log.Info("this node's member of etcd has a vote", "member", r.Member, "members", len(list.Members))
		return true, nil
	case !slices.Equal(mine.PeerURLs, []string{m.peerURLText()}):
		if _, err := cli.MemberUpdate(ctx, mine.ID, []string{m.peerURLText()}); err != nil {
			return false, fmt.Errorf("tell etcd this node's new address: %w", err)
		}
	}
	return false, nil
}

func (m *Membership) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.etcd != nil
}

func (m *Membership) peerURLText() string {
	u := m.peerURL()
	return u.String()
}

// find returns the member of that name, or else the one at that address.
func find(members []*etcdserverpb.Member, name, peer string) *etcdserverpb.Member {
	var at *etcdserverpb.Member
	for _, one := range members {
		if name != "" && one.Name == name {
			return one
		}
		if slices.Contains(one.PeerURLs, peer) {
			at = one
		}
	}
	return at
}

func voters(members []*etcdserverpb.Member) (n int) {
	for _, one := range members {
		if !one.IsLearner {
			n++
		}
	}
	return n
}

// follow keeps the endpoints of the record and of a client.
func (m *Membership) follow(cli *clientv3.Client, members []*etcdserverpb.Member) error {
	var endpoints []string
	for _, one := range members {
		if !one.IsLearner && one.Name != "" {
			endpoints = append(endpoints, one.ClientURLs...)
		}
	}
	slices.Sort(endpoints)
	if len(endpoints) == 0 {
		return nil
	}
	if now := slices.Sorted(slices.Values(cli.Endpoints())); !slices.Equal(now, endpoints) {
		cli.SetEndpoints(endpoints...)
	}
	return m.update(func(r *Record) { r.Endpoints = endpoints })
}

// extend adds this node as a learner and starts it. What an earlier attempt has left
// is taken up.
func (m *Membership) extend(ctx context.Context, cli *clientv3.Client) error {
	if err := m.portsFree(); err != nil {
		return err // a neighbour on this machine may have them
	}
	session, err := concurrency.NewSession(cli, concurrency.WithTTL(lockTTL), concurrency.WithContext(ctx))
	if err == nil && session == nil {
		err = errors.New("etcd gave no lease")
	}
	if err != nil {
		return fmt.Errorf("extend etcd: %w", err)
	}
	defer session.Close()
	lock := concurrency.NewMutex(session, m.cfg.Prefix+"-etcd/"+m.cfg.Cluster+"/extend")
	if err := lock.TryLock(ctx); err != nil {
		return fmt.Errorf("extend etcd: %w", err)
	}
	list, err := cli.MemberList(ctx)
	if err != nil {
		return err
	}
	r, _ := m.Record()
	peer := m.peerURLText()
	mine := find(list.Members, r.Member, peer)
	if mine != nil && (mine.Name != "" || m.dir.hasEtcd()) {
		// Only this node can be at its address, and it has no data or none that could be
		// started: that one is dead, and its number must not be used with an empty log.
		m.log.Info("removing this node's former member of etcd, whose data is gone", "member", mine.Name)
		if _, err := cli.MemberRemove(ctx, mine.ID); err != nil {
			return fmt.Errorf("remove this node's former member of etcd: %w", err)
		}
		return nil
	}
	members := list.Members
	if mine == nil {
		if voters(members) >= wanted {
			return m.update(func(r *Record) { r.Member = "" })
		}
		added, err := cli.MemberAddAsLearner(ctx, []string{peer})
		if errors.Is(err, rpctypes.ErrTooManyLearners) {
			return errBeingAdded
		}
		if err != nil {
			return fmt.Errorf("add this node to etcd: %w", err)
		}
		members = added.Members
	}
	name := newName()
	if err := m.update(func(r *Record) { r.Member, r.Host = name, m.host }); err != nil {
		return err
	}
	var initial []string
	for _, one := range members {
		who := one.Name
		if slices.Contains(one.PeerURLs, peer) {
			who = name
		}
		for _, u := range one.PeerURLs {
			initial = append(initial, who+"="+u)
		}
	}
	if err := m.dir.fs.RemoveAll(m.dir.etcd()); err != nil {
		return err
	}
	m.log.Info("this node becomes a member of etcd", "member", name, "peer", peer)
	return m.start(embed.ClusterStateFlagExisting, strings.Join(initial, ","))
}

func (m *Membership) wishes() (leave bool, retired []string) {
	if m.cfg.Retired == nil {
		return false, nil
	}
	return m.cfg.Retired()
}

// retire removes a decommissioned node's member. All nodes try, and one does it; etcd
// refuses what would cost it its majority.
func (m *Membership) retire(ctx context.Context, cli *clientv3.Client, gone *etcdserverpb.Member, voters int) error {
	if voters <= 1 && !gone.IsLearner {
		return fmt.Errorf("member %s of a decommissioned node is etcd's only one, and stays: start another node", gone.Name)
	}
	if _, err := cli.MemberRemove(ctx, gone.ID); err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
		return fmt.Errorf("remove member %s of a decommissioned node from etcd: %w", gone.Name, err)
	}
	m.log.Info("a decommissioned node's member of etcd is removed", "member", gone.Name)
	if r, _ := m.Record(); r.Member == gone.Name {
		return m.leave()
	}
	return nil
}

// leave makes the node a client of etcd. Its member was removed.
func (m *Membership) leave() error {
	m.log.Info("this node goes on as a client of etcd, since it is decommissioned")
	m.stop()
	if err := m.update(func(r *Record) { r.Member = "" }); err != nil {
		return err
	}
	return m.dir.fs.RemoveAll(m.dir.etcd())
}

// whyStopped says why the member has stopped by itself; nil when it was to.
func (m *Membership) whyStopped(ctx context.Context, cli *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r, _ := m.Record()
	list, err := cli.MemberList(ctx)
	if err == nil && find(list.Members, r.Member, "") == nil {
		if leave, _ := m.wishes(); leave { // another node was quicker
			return m.leave()
		}
		return fmt.Errorf("this node's member of etcd, %s, was removed: remove %s and start the node again, without it or as a new one", r.Member, m.dir.etcd())
	}
	return fmt.Errorf("this node's member of etcd, %s, has stopped: see the log before this", r.Member)
}
