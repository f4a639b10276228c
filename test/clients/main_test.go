package clients

import (
	"fmt"
	"os"
	"testing"

	"github.com/raftsman/raftsman/test/clients/agent"
)

// agentEnv names the client that this program shall be instead of a test.
const agentEnv = "CLIENTS_AGENT"

func TestMain(m *testing.M) {
	if name := os.Getenv(agentEnv); name != "" {
		if err := agent.Serve(agent.Clients[name], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
