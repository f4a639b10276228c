package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// kcat is Debian's kcat, with Debian's librdkafka. It has no administration, and
// can't tell which record was acknowledged: only, by its exit, that all were.
var kcat = Client{
	"produce":   kcatProduce,
	"consume":   kcatConsume,
	"offset_at": kcatOffsetAt,
	"load":      kcatLoad,
	"member":    kcatMember,
}

// kcatCommand is a kcat that dies with this process.
func kcatCommand(j Job, args ...string) *exec.Cmd {
	cmd := exec.Command("kcat", append([]string{"-b", strings.Join(j.Brokers, ",")}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	return cmd
}

func kcatProduce(_ context.Context, j Job, _ Emit) (Event, error) {
	common := []string{"-P", "-t", j.Topic, "-p", fmt.Sprint(j.Partition), "-X", fmt.Sprintf("enable.idempotence=%v", j.Idempotent)}
	if j.Codec != "" {
		common = append(common, "-z", j.Codec)
	}
	if j.MaxBytes > 0 {
		common = append(common, "-X", fmt.Sprintf("message.max.bytes=%d", j.MaxBytes))
	}
	for _, r := range j.Records {
		if r.Time != 0 {
			return Event{}, ErrNone
		}
		args := append([]string{}, common...)
		for _, h := range r.Headers {
			args = append(args, "-H", h.Key+"="+string(h.Value))
		}
		var in []byte
		if r.Key != nil {
			args = append(args, "-K", "\x01")
			in = append(append(in, r.Key...), 1)
		}
		if r.Value == nil {
			args = append(args, "-Z")
		}
		cmd := kcatCommand(j, args...)
		cmd.Stdin = bytes.NewReader(append(append(in, r.Value...), '\n'))
		if err := cmd.Run(); err != nil {
			return Event{}, err
		}
	}
	return Event{}, nil
}

// kcatRecord reads a line of kcat -J.
func kcatRecord(line []byte) (Record, error) {
	var in struct {
		Partition int32
		Offset    int64
		TS        int64
		Headers   []string
		Key       *string
		Payload   *string
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return Record{}, fmt.Errorf("kcat wrote %.100q: %w", line, err)
	}
	r := Record{Partition: in.Partition, Offset: in.Offset, Time: in.TS}
	if in.Key != nil {
		r.Key = []byte(*in.Key)
	}
	if in.Payload != nil {
		r.Value = []byte(*in.Payload)
	}
	for i := 0; i+1 < len(in.Headers); i += 2 {
		r.Headers = append(r.Headers, Header{Key: in.Headers[i], Value: []byte(in.Headers[i+1])})
	}
	return r, nil
}

func kcatConsume(_ context.Context, j Job, _ Emit) (Event, error) {
	out, err := kcatCommand(j, "-C", "-J", "-t", j.Topic, "-p", fmt.Sprint(j.Partition),
		"-o", fmt.Sprint(j.Offset), "-c", fmt.Sprint(j.Count)).Output()
	var e Event
	for line := range bytes.Lines(out) {
		r, err := kcatRecord(line)
		if err != nil {
			return e, err
		}
		e.Records = append(e.Records, r)
	}
	return e, err
}

func kcatOffsetAt(_ context.Context, j Job, _ Emit) (Event, error) {
	out, err := kcatCommand(j, "-Q", "-t", fmt.Sprintf("%s:%d:%d", j.Topic, j.Partition, j.Time)).Output()
	if err != nil {
		return Event{}, err
	}
	var e Event
	_, err = fmt.Sscanf(string(out), j.Topic+" [%d] offset %d", &j.Partition, &e.Count)
	return e, err
}

func kcatLoad(ctx context.Context, j Job, emit Emit) (Event, error) {
	cmd := kcatCommand(j, "-P", "-E", "-t", j.Topic, "-p", "0", "-X", "enable.idempotence=true", "-X", "linger.ms=5")
	in, err := cmd.StdinPipe()
	if err != nil {
		return Event{}, err
	}
	if err := cmd.Start(); err != nil {
		return Event{}, err
	}
	j.Count = 1
	var written []int
	paced(ctx, j, func(n int, r Record) error {
		written = append(written, n)
		_, err = fmt.Fprintf(in, "%s\n", r.Value)
		return err
	})
	in.Close()
	if err := cmd.Wait(); err != nil {
		return Event{}, err
	}
	emit(Event{Kind: "acked", Numbers: written})
	return Event{}, err
}

// kcatMember leaves the commits to librdkafka, each half a second.
func kcatMember(ctx context.Context, j Job, emit Emit) (Event, error) {
	strategy := map[string]string{"": "range", "range": "range", "cooperative": "cooperative-sticky"}[j.Assignor]
	args := []string{"-G", j.Group, "-J", "-u", "-X", "auto.offset.reset=earliest", "-X", "auto.commit.interval.ms=500",
		"-X", fmt.Sprintf("session.timeout.ms=%d", j.Session), "-X", fmt.Sprintf("heartbeat.interval.ms=%d", j.Session/6),
		"-X", "partition.assignment.strategy=" + strategy}
	if j.Instance != "" {
		args = append(args, "-X", "group.instance.id="+j.Instance)
	}
	cmd := kcatCommand(j, append(args, j.Topic)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Event{}, err
	}
	if err := cmd.Start(); err != nil {
		return Event{}, err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return Event{}, err
		}
		r, err := kcatRecord(line)
		if err != nil {
			return Event{}, err
		}
		emit(Event{Kind: "records", Records: []Record{r}})
	}
	return Event{}, cmd.Wait()
}
