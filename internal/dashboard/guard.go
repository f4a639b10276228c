package dashboard

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard lets the page of this node ask, and programs, but no page from elsewhere:
// neither by asking another site's address, nor by having its own name rebound to
// this node's address.
func (d *Dashboard) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		protect(w.Header())
		site := r.Header.Get("Sec-Fetch-Site")
		switch {
		case !d.knows(hostOf(r.Host)):
			refuse(w, http.StatusForbidden, fmt.Sprintf("this node is not known as %.100q", r.Host), "call it by its address or the name in its --http-advertise, or name the host with --http-allowed-hosts")
		case site != "" && site != "same-origin" && site != "none":
			refuse(w, http.StatusForbidden, fmt.Sprintf("this was asked for by the page of another site (Sec-Fetch-Site %.20q)", site), "open the dashboard itself")
		default:
			next(w, r)
		}
	}
}

// knows says whether the node may be called by a name. Addresses are no names that
// could be rebound.
func (d *Dashboard) knows(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || host != "" && d.opts.Known(host)
}

// hostOf is an address without its port and brackets.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return strings.Trim(addr, "[]")
}
