package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// rsyslog is rsyslogd with omkafka. It writes values and does nothing else. It
// does not tell what was acknowledged, so its jobs wait until the partition's
// end says that all has arrived.
var rsyslog = Client{
	"produce": rsyslogProduce,
	"load":    rsyslogLoad,
}

const rsyslogConf = `
global(workDirectory="%[1]s" maxMessageSize="2m")
module(load="imptcp")
module(load="omkafka")
template(name="value" type="string" string="%%rawmsg%%")
input(type="imptcp" path="%[1]s/in.sock" ruleset="out" supportOctetCountedFraming="off")
ruleset(name="out") {
	action(type="omkafka" broker=[%[2]s] topic="%[3]s" template="value" partitions.usefixed="%[4]d"
		confParam=[%[5]s] resubmitOnFailure="on" keepFailedMessages="on" failedMsgFile="%[1]s/failed"
		action.resumeRetryCount="-1" action.resumeInterval="1" closeTimeout="20000")
}
`

// startRsyslog returns a connection that takes one value per line, and what ends
// the process.
func startRsyslog(ctx context.Context, j Job) (net.Conn, func(), error) {
	dir, err := os.MkdirTemp("", "rsyslog")
	if err != nil {
		return nil, nil, err
	}
	params := []string{fmt.Sprintf("enable.idempotence=%v", j.Idempotent)}
	if j.Codec != "" {
		params = append(params, "compression.codec="+j.Codec)
	}
	if j.MaxBytes > 0 {
		params = append(params, fmt.Sprintf("message.max.bytes=%d", j.MaxBytes))
	}
	quoted := func(all []string) string { return `"` + strings.Join(all, `","`) + `"` }
	conf := fmt.Sprintf(rsyslogConf, dir, quoted(j.Brokers), j.Topic, j.Partition, quoted(params))
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644); err != nil {
		return nil, nil, err
	}
	cmd := exec.Command("rsyslogd", "-n", "-f", filepath.Join(dir, "conf"), "-i", filepath.Join(dir, "pid"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	for {
		conn, err := net.Dial("unix", filepath.Join(dir, "in.sock"))
		if err == nil {
			return conn, stop, nil
		}
		if pause(ctx, 50*time.Millisecond); ctx.Err() != nil {
			stop()
			return nil, nil, err
		}
	}
}

// awaitEnd waits until the partition has so many records.
func awaitEnd(ctx context.Context, j Job, end int64) error {
	j.Time = -1
	for {
		e, err := franzOffsetAt(ctx, j, nil)
		if err == nil && e.Count >= end {
			return nil
		}
		if pause(ctx, 50*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("the partition's end is %d, want %d: %w", e.Count, end, ctx.Err())
		}
	}
}

func rsyslogProduce(ctx context.Context, j Job, _ Emit) (Event, error) {
	for _, r := range j.Records {
		if r.Key != nil || r.Value == nil || r.Headers != nil || r.Time != 0 {
			return Event{}, ErrNone
		}
	}
	before, err := franzOffsetAt(ctx, Job{Brokers: j.Brokers, Topic: j.Topic, Partition: j.Partition, Time: -1}, nil)
	if err != nil {
		before.Count = 0 // the topic is yet to be created
	}
	conn, stop, err := startRsyslog(ctx, j)
	if err != nil {
		return Event{}, err
	}
	defer stop()
	for _, r := range j.Records {
		if _, err := fmt.Fprintf(conn, "%s\n", r.Value); err != nil {
			return Event{}, err
		}
	}
	if err := conn.Close(); err != nil {
		return Event{}, err
	}
	return Event{}, awaitEnd(ctx, j, before.Count+int64(len(j.Records)))
}

func rsyslogLoad(ctx context.Context, j Job, emit Emit) (Event, error) {
	j.Idempotent, j.Count = true, 1
	conn, stop, err := startRsyslog(ctx, j)
	if err != nil {
		return Event{}, err
	}
	defer stop()
	var written []int
	paced(ctx, j, func(n int, r Record) error {
		written = append(written, n)
		_, err = fmt.Fprintf(conn, "%s\n", r.Value)
		return err
	})
	if err != nil {
		return Event{}, err
	}
	if err := conn.Close(); err != nil {
		return Event{}, err
	}
	bounded, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := awaitEnd(bounded, j, int64(len(written))); err != nil {
		return Event{}, err
	}
	emit(Event{Kind: "acked", Numbers: written})
	return Event{}, nil
}
