package discovery

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
)

const (
	magic       = "RMD1"
	headerSize  = len(magic) + sha256.Size
	maxDatagram = 1200
	maxName     = 249 // of a cluster
	idLength    = 32
)

// ID names one run of a process. Among equals the lowest goes first.
type ID string

// NewID returns an id that nobody has.
func NewID() ID {
	var b [idLength / 2]byte
	_, _ = rand.Read(b[:]) // never fails
	return ID(hex.EncodeToString(b[:]))
}

func (id ID) valid() bool {
	b, err := hex.DecodeString(string(id))
	return err == nil && len(b) == idLength/2 && hex.EncodeToString(b) == string(id)
}

// State is what somebody does about a cluster.
type State string

// The states, in the order in which a first node goes through them.
const (
	Asking   State = "asking"   // it looks for a cluster and makes none
	Standing State = "standing" // it makes one if there is none
	Claiming State = "claiming" // it is about to make one
	First    State = "first"    // it has made or joined one, and can't be asked yet
	Member   State = "member"   // it is a node of one
)

// Message is what a datagram says.
type Message struct {
	Cluster string `json:"cluster"` // its name
	From    ID     `json:"from"`
	Seq     uint64 `json:"seq"` // rises with each message of one sender, from 1
	State   State  `json:"state"`
	// Grant is the candidate that the sender stands back for, and Echo the last Seq
	// that it had from that one.
	Grant ID     `json:"grant,omitempty"`
	Echo  uint64 `json:"echo,omitempty"`
	// Best is the lowest candidate that claims, of those that the sender hears.
	Best ID `json:"best,omitempty"`
	// ClusterID and HTTP are a member's: where to ask for /cluster.json.
	ClusterID string `json:"cluster_id,omitempty"`
	HTTP      string `json:"http,omitempty"`
}

func (m *Message) check() error {
	switch {
	case m.Cluster == "" || len(m.Cluster) > maxName:
		return errors.New("no name of a cluster")
	case !m.From.valid() || m.Seq == 0:
		return errors.New("no sender")
	case m.Grant != "" && !m.Grant.valid(), m.Best != "" && !m.Best.valid():
		return errors.New("a candidate without an id")
	}
	switch m.State {
	case Asking, Standing, Claiming, First:
		return nil
	case Member:
		if m.ClusterID == "" || len(m.ClusterID) > 64 {
			return errors.New("a member of no cluster")
		}
		if host, port, err := net.SplitHostPort(m.HTTP); err != nil || host == "" || port == "" {
			return errors.New("a member without an address")
		}
		return nil
	}
	return fmt.Errorf("unknown state %q", m.State)
}

// errMistrusted is returned with a message that was not signed with our secret.
var errMistrusted = errors.New("not signed with this cluster's secret")

// encode makes a datagram.
func encode(m Message, secret []byte) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if headerSize+len(body) > maxDatagram {
		return nil, fmt.Errorf("%d bytes are too many for a datagram", len(body))
	}
	out := make([]byte, headerSize, headerSize+len(body))
	copy(out, magic)
	copy(out[len(magic):], sign(secret, body))
	return append(out, body...), nil
}

// sign returns zeros when there is no secret.
func sign(secret []byte, parts ...[]byte) []byte {
	if len(secret) == 0 {
		return make([]byte, sha256.Size)
	}
	h := hmac.New(sha256.New, secret)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// decode reads a datagram. With errMistrusted the message is what it claims to be.
func decode(data, secret []byte) (m Message, err error) {
	if len(data) > maxDatagram || len(data) <= headerSize || string(data[:len(magic)]) != magic {
		return m, errors.New("not a message of raftsman")
	}
	signature, body := data[len(magic):headerSize], data[headerSize:]
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(&m); err != nil {
		return Message{}, err
	}
	if dec.More() {
		return Message{}, errors.New("more than a message")
	}
	if err := m.check(); err != nil {
		return Message{}, err
	}
	if !hmac.Equal(signature, sign(secret, body)) {
		return m, errMistrusted
	}
	return m, nil
}
