package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/config"
)

// DescribeConfigs (key 32), versions 0-4
//
//	1    where a value comes from, and on request its synonyms (KIP-226)
//	3    type, and on request documentation (KIP-569)
//	4    flexible
//
// Every configuration is told, set or not, or those that are named; names that
// are unknown are left out. What was not set and has no default is null.
// Nothing is sensitive: passwords are no configurations here. A broker
// describes itself, and with an empty name what was set for all brokers.

func (s *Server) describeConfigs(_ context.Context, x *exchange, req *kmsg.DescribeConfigsRequest) *kmsg.DescribeConfigsResponse {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	seen := make(once[ConfigResource])
	for i := range req.Resources {
		r := &req.Resources[i]
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		resource, err := s.configResource(r.ResourceType, r.ResourceName)
		if !seen.first(resource) {
			continue
		}
		var entries []config.Entry
		if err == nil {
			entries, err = s.backend.DescribeConfigs(resource)
		}
		s.unexpected(x, r.ResourceName, err)
		rr.ErrorCode, rr.ErrorMessage = codeOf(err), messageOf(err)
		for j := range entries {
			if len(r.ConfigNames) == 0 || slices.Contains(r.ConfigNames, entries[j].Def.Name) {
				rr.Configs = append(rr.Configs, describeConfig(&entries[j], req))
			}
		}
		resp.Resources = append(resp.Resources, rr)
	}
	return resp
}

func describeConfig(e *config.Entry, req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.ReadOnly = e.Def.Name, e.Def.ReadOnly
	if !e.Null {
		c.Value = &e.Value
	}
	c.Source, c.ConfigType = kmsg.ConfigSource(e.Source), kmsg.ConfigType(e.Def.Type)
	c.IsDefault = e.Source == config.Default
	if req.IncludeSynonyms {
		for i := range e.Synonyms {
			v := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			v.Name, v.Value, v.Source = e.Synonyms[i].Name, &e.Synonyms[i].Value, kmsg.ConfigSource(e.Synonyms[i].Source)
			c.ConfigSynonyms = append(c.ConfigSynonyms, v)
		}
	}
	if req.IncludeDocumentation {
		doc := e.Def.Doc
		if e.Def.Inert != "" {
			doc += " Without effect: " + e.Def.Inert + "."
		}
		c.Documentation = &doc
	}
	return c
}
