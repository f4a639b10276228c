package kafka

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeConfigs (key 32), versions 0-4
//
//	1    where a value comes from; synonyms: none are told
//	3    type and documentation: neither is told
//	4    flexible
//
// Topics have what was set for them and the limit on a batch. Brokers have
// nothing that can be told in Kafka's terms.

const maxMessageBytes = "max.message.bytes"

func (s *Server) describeConfigs(_ context.Context, _ *exchange, req *kmsg.DescribeConfigsRequest) *kmsg.DescribeConfigsResponse {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	for i := range req.Resources {
		r := &req.Resources[i]
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		configs, err := s.describeResource(r)
		rr.ErrorCode, rr.ErrorMessage = codeOf(err), messageOf(err)
		for _, c := range configs {
			if r.ConfigNames == nil || slices.Contains(r.ConfigNames, c.Name) {
				rr.Configs = append(rr.Configs, c)
			}
		}
		resp.Resources = append(resp.Resources, rr)
	}
	return resp
}

func (s *Server) describeResource(r *kmsg.DescribeConfigsRequestResource) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	switch r.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		info, ok := s.backend.Topic(r.ResourceName)
		if !ok {
			return nil, kerr.UnknownTopicOrPartition
		}
		return s.topicConfigs(&info), nil
	case kmsg.ConfigResourceTypeBroker:
		if id, err := strconv.ParseInt(r.ResourceName, 10, 32); r.ResourceName != "" && (err != nil || id < 0) {
			return nil, Errorf(kerr.InvalidRequest, "broker %q is not a number", r.ResourceName)
		}
		return nil, nil
	default:
		return nil, Errorf(kerr.InvalidRequest, "resources of type %d have no configuration", r.ResourceType)
	}
}

func (s *Server) topicConfigs(info *TopicInfo) []kmsg.DescribeConfigsResponseResourceConfig {
	one := func(name, value string, source kmsg.ConfigSource) kmsg.DescribeConfigsResponseResourceConfig {
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.Value, c.Source = name, kmsg.StringPtr(value), source
		c.IsDefault = source == kmsg.ConfigSourceDefaultConfig
		return c
	}
	var configs []kmsg.DescribeConfigsResponseResourceConfig
	for _, name := range slices.Sorted(maps.Keys(info.Config)) {
		configs = append(configs, one(name, info.Config[name], kmsg.ConfigSourceDynamicTopicConfig))
	}
	if _, set := info.Config[maxMessageBytes]; !set {
		limit := info.MaxMessageBytes
		if limit <= 0 {
			limit = s.opts.Limits.MaxMessageBytes
		}
		configs = append(configs, one(maxMessageBytes, strconv.Itoa(limit), kmsg.ConfigSourceDefaultConfig))
	}
	return configs
}
