package node_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// A node inside another program: it needs a directory and an etcd.
func Example() {
	dir, _ := os.MkdirTemp("", "raftsman-example")
	defer os.RemoveAll(dir)
	etcds, err := testetcd.Open(dir+"/etcd", 1) // or the etcd that you have
	if err != nil {
		fmt.Println(err)
		return
	}
	defer etcds[0].Stop()

	cfg := node.Config{
		DataDir: dir + "/node", Listeners: []node.KafkaListener{{Name: "default", Addr: "127.0.0.1:0"}},
		HTTPAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", AutoCreateTopics: true,
	}
	cfg.Etcd.Endpoints = []string{etcds[0].Endpoint()}
	n, err := node.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	<-n.Ready()

	client, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()), kgo.ConsumeTopics("greetings"), kgo.AllowAutoTopicCreation())
	if err != nil {
		fmt.Println(err)
		return
	}
	record := &kgo.Record{Topic: "greetings", Value: []byte("hello")}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		fmt.Println(err)
	}
	client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { fmt.Println(string(r.Value)) })
	client.Close()

	stop()
	fmt.Println(<-done)
	// Output:
	// hello
	// <nil>
}
