package election

import clientv3 "go.etcd.io/etcd/client/v3"

// Token proves a leadership to etcd: the winner's key and the revision at
// which it was created. A transaction that includes Compare changes nothing
// once that key is gone, even if the same process has won again meanwhile.
type Token struct {
	Key            string
	CreateRevision int64
}

// Compare is the condition that the holder of the token still leads.
func (t Token) Compare() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(t.Key), "=", t.CreateRevision)
}
