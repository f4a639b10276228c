package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultGroup is where nodes look for each other: organisation-local multicast.
const DefaultGroup = "239.255.77.77:7077"

const (
	queued     = 512                   // datagrams that wait to be looked at; more are dropped
	errorPause = 10 * time.Millisecond // so that an error that stays costs little
)

// Options say where and as what to look or to answer.
type Options struct {
	// Cluster is the cluster's name; others' are ignored.
	Cluster string
	// Group is a multicast address with its port. Default DefaultGroup.
	Group string
	// Interface is the network interface's name. Default: the one that the group is
	// routed to, else the first that has an IPv4 address and is not loopback.
	Interface string
	// Secret signs everything. Empty: nothing is signed.
	Secret []byte
	// Logger and Registerer may be nil.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o *Options) setDefaults() {
	if o.Group == "" {
		o.Group = DefaultGroup
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Place is where the group is reached from.
type Place struct {
	Interface string
	Addr      netip.Prefix // the interface's address and network
}

// FindPlace resolves Options.Interface.
func FindPlace(group, name string) (Place, error) {
	g, err := groupAddr(group)
	if err != nil {
		return Place{}, err
	}
	if name != "" {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return Place{}, fmt.Errorf("network interface %s: %w", name, err)
		}
		p, ok := placeOf(ifi, netip.Addr{})
		if !ok {
			return Place{}, fmt.Errorf("network interface %s has no IPv4 address", name)
		}
		return p, nil
	}
	all, err := net.Interfaces()
	if err != nil {
		return Place{}, err
	}
	var routed netip.Addr
	if c, err := net.DialUDP("udp4", nil, g); err == nil { // sends nothing
		routed = c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
		c.Close()
	}
	for _, want := range []netip.Addr{routed, {}} {
		for i := range all {
			if all[i].Flags&net.FlagUp == 0 || all[i].Flags&net.FlagLoopback != 0 || all[i].Flags&net.FlagMulticast == 0 {
				continue
			}
			if p, ok := placeOf(&all[i], want); ok {
				return p, nil
			}
		}
	}
	return Place{}, errors.New("no network interface is up that has an IPv4 address and multicast; name one with --discover-interface")
}

// placeOf is an interface's first IPv4 address, or the wanted one.
func placeOf(ifi *net.Interface, want netip.Addr) (Place, bool) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return Place{}, false
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is4() && (!want.IsValid() || p.Addr() == want) {
			return Place{Interface: ifi.Name, Addr: p}, true
		}
	}
	return Place{}, false
}

func groupAddr(group string) (*net.UDPAddr, error) {
	ap, err := netip.ParseAddrPort(group)
	if err != nil || !ap.Addr().Is4() || !ap.Addr().IsMulticast() || ap.Port() == 0 {
		return nil, fmt.Errorf("%q is no IPv4 multicast address with a port, as %s is", group, DefaultGroup)
	}
	return net.UDPAddrFromAddrPort(ap), nil
}

// CheckGroup says whether an address can be a group.
func CheckGroup(group string) error {
	_, err := groupAddr(group)
	return err
}

// received is a datagram that was read.
type received struct {
	m          Message
	from       *net.UDPAddr
	mistrusted bool
}

// socket sends to a group and hears it, and what is sent to itself alone.
type socket struct {
	opts     Options
	place    Place
	group    *net.UDPAddr
	in, out  *net.UDPConn
	packets  chan received
	counters *counters
	readers  sync.WaitGroup
}

func open(opts Options, count *counters) (*socket, error) {
	place, err := FindPlace(opts.Group, opts.Interface)
	if err != nil {
		return nil, err
	}
	group, err := groupAddr(opts.Group)
	if err != nil {
		return nil, err
	}
	ifi, err := net.InterfaceByName(place.Interface)
	if err != nil {
		return nil, err
	}
	s := &socket{opts: opts, place: place, group: group, packets: make(chan received, queued), counters: count}
	if s.in, err = net.ListenMulticastUDP("udp4", ifi, group); err != nil {
		return nil, fmt.Errorf("join %s on %s: %w", opts.Group, place.Interface, err)
	}
	ip := place.Addr.Addr().As4()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var inner error
		err := c.Control(func(fd uintptr) {
			inner = syscall.SetsockoptInet4Addr(int(fd), syscall.IPPROTO_IP, syscall.IP_MULTICAST_IF, ip)
		})
		return errors.Join(err, inner)
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp4", net.JoinHostPort(place.Addr.Addr().String(), "0"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", place.Addr.Addr(), err), s.in.Close())
	}
	s.out = conn.(*net.UDPConn)
	s.readers.Go(func() { s.read(s.in) })
	s.readers.Go(func() { s.read(s.out) })
	return s, nil
}

func (s *socket) close() {
	_ = s.in.Close() // nothing is lost with them
	_ = s.out.Close()
	s.readers.Wait()
}

// read takes datagrams until the socket is closed.
func (s *socket) read(conn *net.UDPConn) {
	buf := make([]byte, maxDatagram+1)
	for {
		n, from, err := conn.ReadFromUDP(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // what came of an earlier datagram, such as a port that nobody listens on
			time.Sleep(errorPause)
			continue
		}
		m, err := decode(buf[:n], s.opts.Secret)
		mistrusted := errors.Is(err, errMistrusted)
		switch {
		case err != nil && !mistrusted:
			s.counters.add("invalid")
			continue
		case m.Cluster != s.opts.Cluster:
			s.counters.add("other cluster's name")
			continue
		case mistrusted:
			s.counters.add("wrong signature")
		default:
			s.counters.add("taken")
		}
		select {
		case s.packets <- received{m, from, mistrusted}:
		default: // nobody looks: it will be said again
		}
	}
}

// send sends to the group, or to one address.
func (s *socket) send(m Message, to *net.UDPAddr) error {
	data, err := encode(m, s.opts.Secret)
	if err != nil {
		return err
	}
	if to == nil {
		ifi, err := net.InterfaceByName(s.place.Interface)
		if err != nil {
			return err
		}
		if ifi.Flags&net.FlagRunning == 0 {
			return fmt.Errorf("network interface %s has no link", s.place.Interface)
		}
		to = s.group
	}
	_, err = s.out.WriteToUDP(data, to)
	return err
}

// near says whether an address is on the interface's own network: nobody else is
// answered.
func (s *socket) near(from *net.UDPAddr) bool {
	return s.place.Addr.Contains(from.AddrPort().Addr().Unmap())
}

// counters are the metrics of one process.
type counters struct {
	received *prometheus.CounterVec
	answers  *prometheus.CounterVec
	others   prometheus.Gauge
}

func newCounters(r prometheus.Registerer) (*counters, error) {
	c := &counters{
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "raftsman_discovery_received_total", Help: "Datagrams received on the discovery group, by what became of them.",
		}, []string{"result"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "raftsman_discovery_answers_total", Help: "Answers to nodes that look for a cluster, sent or held back.",
		}, []string{"result"}),
		others: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "raftsman_discovery_other_clusters", Help: "Other clusters of the same name that were heard in the last minute.",
		}),
	}
	if r == nil {
		return c, nil
	}
	for _, m := range []prometheus.Collector{c.received, c.answers, c.others} {
		if err := r.Register(m); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *counters) add(result string) { c.received.WithLabelValues(result).Inc() }
