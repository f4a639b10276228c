package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
)

// progress shows how far an operation is: to a person as a bar that is drawn
// anew, else as a line each time the percentage or the reason changes.
type progress struct {
	w        io.Writer
	terminal bool
	width    func() int // of the terminal, in columns
	last     string
	open     bool // the cursor is in a line that was begun
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, terminal: screenOf(w).terminal, width: func() int { return screenOf(w).width }}
}

const barWidth = 30

// op shows an operation.
func (p *progress) op(o gateway.Operation) {
	percent := health.Percent(o.Op)
	line := fmt.Sprintf("%s: %s %d%%", health.Title(o.Op), opState(o), percent)
	key := line + o.Reason
	if p.terminal {
		full := barWidth * percent / 100
		line = fmt.Sprintf("%s [%s%s] %d%% %s", health.Title(o.Op), strings.Repeat("#", full), strings.Repeat("-", barWidth-full), percent, opState(o))
	}
	if pr := o.Progress; pr != nil {
		line += fmt.Sprintf(", %d of %d", pr.Done, pr.Total)
		if pr.BytesTotal > 0 {
			line += fmt.Sprintf(", %s of %s", health.Size(pr.BytesDone), health.Size(pr.BytesTotal))
		}
	}
	if l := left(o); l != "-" {
		line += ", " + l + " left"
	}
	if o.Reason != "" && o.State != cluster.OpDone {
		line += ": " + o.Reason
	}
	p.show(line, key)
}

// note shows something else, once.
func (p *progress) note(text string) { p.show(text, text) }

func (p *progress) show(line, key string) {
	switch {
	case p.terminal:
		// A line that wraps could not be drawn over.
		short := []rune(line)
		fmt.Fprintf(p.w, "\r\x1b[K%s", string(short[:min(len(short), max(p.width()-1, 1))]))
		p.open = true
	case key != p.last:
		fmt.Fprintln(p.w, line)
	}
	p.last = key
}

// end leaves the line.
func (p *progress) end() {
	if p.open {
		fmt.Fprintln(p.w)
		p.open = false
	}
}

// patience is how long one waits for an answer without a word.
const patience = time.Second

// waiting says what is waited for, if that takes long and a person sees it, until
// stop.
func waiting(cmd *cobra.Command, what string) (stop func()) {
	began := time.Now()
	return live(cmd.ErrOrStderr(), func() string {
		if d := time.Since(began); d >= patience {
			return fmt.Sprintf("waiting for %s, %ds", what, int(d.Seconds()))
		}
		return ""
	})
}

// livePeriod is how often a live line is drawn.
const livePeriod = 250 * time.Millisecond

// live shows a line that changes, if a person sees it, until stop, which removes
// it. A command that ends at once shows none, and nor does an empty line.
func live(w io.Writer, line func() string) (stop func()) {
	p := newProgress(w)
	if !p.terminal {
		return func() {}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(livePeriod)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				if p.open {
					fmt.Fprint(w, "\r\x1b[K")
				}
				return
			case <-tick.C:
				if text := line(); text != "" {
					p.show(text, text)
				}
			}
		}
	}()
	return func() { close(quit); <-ended }
}
