package replication

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger hands raft's messages to slog, all of them at debug level: what
// an operator must know of a group is logged by this package, once, with
// topic and partition.
type raftLogger struct {
	log  *slog.Logger
	name string
}

var _ hclog.Logger = (*raftLogger)(nil)

func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	if l.enabled() {
		l.log.Debug("raft: "+msg, append([]any{slog.String("raft_level", level.String())}, format(args)...)...)
	}
}

func (l *raftLogger) enabled() bool {
	return l.log.Enabled(context.Background(), slog.LevelDebug)
}

// format evaluates hclog's lazy values.
func format(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			a = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		out[i] = a
	}
	return out
}

func (l *raftLogger) Trace(string, ...any)             {}
func (l *raftLogger) Debug(msg string, args ...any)    { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)     { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)     { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any)    { l.Log(hclog.Error, msg, args...) }
func (l *raftLogger) IsTrace() bool                    { return false }
func (l *raftLogger) IsDebug() bool                    { return l.enabled() }
func (l *raftLogger) IsInfo() bool                     { return l.enabled() }
func (l *raftLogger) IsWarn() bool                     { return l.enabled() }
func (l *raftLogger) IsError() bool                    { return l.enabled() }
func (l *raftLogger) ImpliedArgs() []any               { return nil }
func (l *raftLogger) With(args ...any) hclog.Logger    { return &raftLogger{l.log.With(args...), l.name} }
func (l *raftLogger) Name() string                     { return l.name }
func (l *raftLogger) Named(name string) hclog.Logger   { return &raftLogger{l.log, name} }
func (l *raftLogger) ResetNamed(n string) hclog.Logger { return &raftLogger{l.log, n} }
func (l *raftLogger) SetLevel(hclog.Level)             {}
func (l *raftLogger) GetLevel() hclog.Level            { return hclog.Debug }
func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(io.Discard, "", 0)
}
func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return io.Discard }
