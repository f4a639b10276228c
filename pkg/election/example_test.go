package election_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/election"
)

// exampleEtcd stands for the etcd that a service is configured with.
func exampleEtcd() (*clientv3.Client, func()) {
	dir, err := os.MkdirTemp("", "election")
	if err != nil {
		panic(err)
	}
	servers, err := testetcd.Open(dir, 1)
	if err != nil {
		panic(err)
	}
	client, err := clientv3.New(testetcd.ClientConfig(servers[0].Endpoint()))
	if err != nil {
		panic(err)
	}
	return client, func() {
		client.Close()
		servers[0].Stop()
		os.RemoveAll(dir)
	}
}

// A service that registers its instances and lets one of them do the work.
func ExampleRun() {
	client, done := exampleEtcd()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	err := election.Run(ctx, client, election.Config{
		Register: func() []election.Registration {
			return []election.Registration{{Key: "/jobs/instances/1", Value: []byte("10.0.0.1:8080")}}
		},
		Name:  "/jobs/leader",
		Value: []byte("instance 1"),
		Lead: func(ctx context.Context, l *election.Leadership) error {
			// Every command of the winner carries its token.
			resp, err := client.Txn(ctx).
				If(l.Token.Compare()).
				Then(clientv3.OpPut("/jobs/plan", "nightly")).
				Commit()
			if err != nil {
				return err
			}
			fmt.Println("obeyed:", resp.Succeeded)
			stop() // a real one goes on until ctx ends
			<-ctx.Done()
			return nil
		},
	})
	fmt.Println("stopped:", err)
	// Output:
	// obeyed: true
	// stopped: <nil>
}

// A second instance with the same name learns who is first.
func ExampleSession_Register() {
	client, done := exampleEtcd()
	defer done()
	ctx := context.Background()
	first, _ := election.NewSession(ctx, client, election.SessionConfig{})
	defer first.Close(ctx)
	second, _ := election.NewSession(ctx, client, election.SessionConfig{})
	defer second.Close(ctx)

	fmt.Println(first.Register(ctx, "/jobs/instances/1", []byte("10.0.0.1:8080")))
	err := second.Register(ctx, "/jobs/instances/1", []byte("10.0.0.2:8080"))
	var held *election.HeldError
	if errors.As(err, &held) {
		fmt.Printf("instance 1 runs already: %s\n", held.Value)
	}
	// Output:
	// <nil>
	// instance 1 runs already: 10.0.0.1:8080
}

// One term, step by step.
func ExampleCampaign() {
	client, done := exampleEtcd()
	defer done()
	ctx := context.Background()
	s, _ := election.NewSession(ctx, client, election.SessionConfig{})
	defer s.Close(ctx)

	l, err := election.Campaign(ctx, s, "/jobs/leader", []byte("instance 1"))
	fmt.Println(err, l.Valid())
	fmt.Println(l.Resign(ctx), l.Valid())
	fmt.Println(context.Cause(l.Context()))
	// Output:
	// <nil> true
	// <nil> false
	// leadership resigned
}
