package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions (key 18), versions 0-4
//
//	0    the advertised ranges
//	1    throttle time
//	3    flexible, but for the response's header; client software
//	4    supported features may start at version 0; we have none
//
// An unknown version is answered in version 0 with UNSUPPORTED_VERSION and
// the range of key 18 alone (KIP-511), so that any client can go down to it.

func (s *Server) apiVersions(_ context.Context, x *exchange, req *kmsg.ApiVersionsRequest) *kmsg.ApiVersionsResponse {
	resp := kmsg.NewPtrApiVersionsResponse()
	if x.version >= 3 && !(validSoftware(req.ClientSoftwareName) && validSoftware(req.ClientSoftwareVersion)) {
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp
	}
	for _, a := range s.apis.rows {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.min, a.max
		if f := s.opts.Forward; f != nil && a.key != apiVersionsKey {
			var known bool
			if k.MinVersion, k.MaxVersion, known = f.Range(a.key, a.min, a.max); !known {
				continue
			}
		}
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	return resp
}

func replyUnsupportedApiVersions(x *exchange) {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = x.api.key, x.api.min, x.api.max
	resp.ApiKeys = append(resp.ApiKeys, k)
	x.version = 0
	x.reply(resp)
}

// validSoftware says whether a client's name or version is one: letters and
// digits, with dots and dashes between them.
func validSoftware(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case (c == '.' || c == '-') && i > 0 && i < len(s)-1:
		default:
			return false
		}
	}
	return s != ""
}
