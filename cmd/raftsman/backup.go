package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/backup"
	"github.com/raftsman/raftsman/internal/health"
)

func newBackup() *cobra.Command {
	return group("backup", "Back topics, configurations and groups' offsets up, and restore them",
		newBackupCreate(), newBackupList(), newBackupVerify(), newBackupRestore())
}

const placeHelp = `PLACE is a directory, or s3://BUCKET/PREFIX. Credentials for S3 come from AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, from ~/.aws/credentials, or from the machine's role.`

// placeFlags say how to reach a place.
type placeFlags struct{ s3 backup.S3Options }

func (p *placeFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.s3.Endpoint, "s3-endpoint", "", "http://HOST:PORT or https://HOST of an S3-compatible store (default: AWS_ENDPOINT_URL, else Amazon's)")
	cmd.Flags().StringVar(&p.s3.Region, "s3-region", "", "region of the bucket, where the store needs it (default: AWS_REGION)")
}

func (p *placeFlags) open(where string) (backup.Place, error) {
	place, err := backup.Open(where, p.s3)
	if err != nil {
		return nil, usageError{err}
	}
	return place, nil
}

// workFlags say how much is done at a time, and show how far it is.
type workFlags struct {
	work  backup.Work
	quiet bool
}

func (w *workFlags) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Int64Var(&w.work.Rate, "rate", 0, "bytes a second to read at most; 0: no limit")
	f.IntVar(&w.work.Concurrency, "concurrency", 4, "partitions at a time; each needs about three times --object-bytes of memory")
	f.BoolVar(&w.quiet, "quiet", false, "show no progress")
}

// begin checks the flags and returns a Work that shows its progress, and what ends that.
func (w *workFlags) begin(cmd *cobra.Command, verb string) (backup.Work, func(), error) {
	switch {
	case w.work.Rate < 0:
		return w.work, nil, usageError{errors.New("--rate is bytes a second, or 0 for no limit")}
	case w.work.Concurrency < 1 || w.work.Concurrency > 256:
		return w.work, nil, usageError{fmt.Errorf("--concurrency is %d: it must be from 1 to 256", w.work.Concurrency)}
	}
	var mu sync.Mutex
	bar := newProgress(cmd.ErrOrStderr())
	var last time.Time
	work := w.work
	work.Note = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		bar.end()
		fmt.Fprintln(cmd.ErrOrStderr(), text)
	}
	if w.quiet {
		return work, func() {}, nil
	}
	began := time.Now()
	work.Progress = func(p backup.Progress) {
		mu.Lock()
		defer mu.Unlock()
		finished := p.PartitionsDone == p.Partitions
		if now := time.Now(); now.Sub(last) < time.Second && !finished {
			return
		} else {
			last = now
		}
		percent := int64(100)
		if p.Offsets > 0 {
			percent = 100 * p.OffsetsDone / p.Offsets
		}
		speed := int64(float64(p.Bytes) / max(time.Since(began).Seconds(), 1))
		bar.note(fmt.Sprintf("%s: %d%%, %d of %s, %s read, %s/s", verb, percent, p.PartitionsDone,
			plural(int(p.Partitions), "partition", "partitions"), health.Size(p.Bytes), health.Size(speed)))
	}
	return work, bar.end, nil
}

// damaged gives an error about damage the exit code of something that was refused.
func damaged(err error) error {
	var damage *backup.DamageError
	if errors.As(err, &damage) {
		return exitError{exitRefused, err}
	}
	return err
}

func placeAnd(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{fmt.Errorf("%s needs a PLACE: a directory, or s3://BUCKET/PREFIX", cmd.CommandPath())}
	}
	return nil
}
