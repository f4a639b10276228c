package kafka

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What is named a thousand times in a request is answered once.
func TestNamedOftenIsAnsweredOnce(t *testing.T) {
	const often = 1000
	r := newRig(t, nil)
	r.back.mustCreate("t", 2)
	joined(r, "g")
	withOffset(r, "offsets", "t", 7)
	c := r.dial()

	meta := kmsg.NewPtrMetadataRequest()
	meta.Topics = slices.Repeat([]kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("t")}, {TopicID: topicID(r, "t")}, {Topic: kmsg.StringPtr("none")}}, often)
	if got := ask[*kmsg.MetadataResponse](c, meta, 12).Topics; len(got) != 2 {
		t.Errorf("Metadata: %d topics", len(got))
	}

	configs := kmsg.NewPtrDescribeConfigsRequest()
	for range often {
		for _, name := range []string{"1", "01", "+1"} {
			configs.Resources = append(configs.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: name})
		}
		configs.Resources = append(configs.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"})
	}
	if got := ask[*kmsg.DescribeConfigsResponse](c, configs, 4).Resources; len(got) != 2 {
		t.Errorf("DescribeConfigs: %d resources", len(got))
	}

	groups := kmsg.NewPtrDescribeGroupsRequest()
	groups.Groups = slices.Repeat([]string{"g", "none"}, often)
	if got := ask[*kmsg.DescribeGroupsResponse](c, groups, 5).Groups; len(got) != 2 || len(got[0].Members) != 1 {
		t.Errorf("DescribeGroups: %d groups", len(got))
	}

	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Groups = slices.Repeat([]kmsg.OffsetFetchRequestGroup{{
		Group: "offsets", Topics: slices.Repeat([]kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: slices.Repeat([]int32{0, 1}, often)}}, 2),
	}}, 2)
	got := ask[*kmsg.OffsetFetchResponse](c, fetch, 8).Groups
	if len(got) != 2 || len(got[0].Topics[0].Partitions) != 2 || len(got[0].Topics[1].Partitions) != 0 || len(got[1].Topics[0].Partitions) != 0 {
		t.Errorf("OffsetFetch: %d groups", len(got))
	}
	fetch.Groups = slices.Repeat([]kmsg.OffsetFetchRequestGroup{{Group: "offsets"}}, often)
	if got := ask[*kmsg.OffsetFetchResponse](c, fetch, 8).Groups; len(got) != 1 || len(got[0].Topics) != 1 {
		t.Errorf("OffsetFetch of all: %d groups", len(got))
	}
	old := kmsg.NewPtrOffsetFetchRequest()
	old.Group, old.Topics = "offsets", []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: slices.Repeat([]int32{0}, often)}}
	if got := ask[*kmsg.OffsetFetchResponse](c, old, 7).Topics; len(got[0].Partitions) != 1 {
		t.Errorf("OffsetFetch 7: %d partitions", len(got[0].Partitions))
	}

	producers := kmsg.NewPtrDescribeProducersRequest()
	producers.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: slices.Repeat([]int32{0, 1}, often)}}
	if got := ask[*kmsg.DescribeProducersResponse](c, producers, 0).Topics[0].Partitions; len(got) != 2 {
		t.Errorf("DescribeProducers: %d partitions", len(got))
	}
}
