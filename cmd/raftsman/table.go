package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// screen is where tables are shown.
type screen struct {
	terminal bool
	colour   bool
	width    int // in columns; 0: no limit
	height   int // in lines; 0: no limit
}

// screenOf looks what w is now: a terminal's size changes.
func screenOf(w io.Writer) screen {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(f) {
		return screen{}
	}
	s := screen{terminal: true, colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", width: 80, height: 24}
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 && size.Row > 0 {
		s.width, s.height = int(size.Col), int(size.Row)
	}
	return s
}

// tone is text in a colour, on terminals that shall have colours.
type tone struct{ code, text string }

func good(text string) tone { return tone{"32", text} }
func warn(text string) tone { return tone{"33", text} }
func bad(text string) tone  { return tone{"31", text} }
func bold(text string) tone { return tone{"1", text} }

var (
	colours = regexp.MustCompile("\x1b\\[[0-9;]*m")
	toned   = regexp.MustCompile("^\x1b\\[([0-9;]+)m(.*)\x1b\\[0m$")
)

func (t tone) String() string {
	if t.text == "" {
		return ""
	}
	return "\x1b[" + t.code + "m" + t.text + "\x1b[0m"
}

// visible is how many columns a text takes.
func visible(text string) int { return utf8.RuneCountInString(colours.ReplaceAllString(text, "")) }

// cells writes one line of a table.
func cells(w io.Writer, values ...any) {
	texts := make([]string, len(values))
	for i, v := range values {
		if t, ok := v.(tone); ok {
			texts[i] = tone{t.code, printable(t.text)}.String()
		} else {
			texts[i] = printable(fmt.Sprint(v))
		}
	}
	fmt.Fprintln(w, strings.Join(texts, "\t"))
}

// heading writes the names of a table's columns.
func heading(w io.Writer, names ...string) {
	values := make([]any, len(names))
	for i, n := range names {
		values[i] = bold(n)
	}
	cells(w, values...)
}

// printable shows what would move a terminal's cursor, or be a column of its own:
// some texts come from clients.
func printable(text string) string {
	if strings.IndexFunc(text, unicode.IsControl) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsControl(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// columnGap lies between two columns; no column is made narrower than
// narrowColumn.
const (
	columnGap    = 2
	narrowColumn = 6
)

// layout puts cells that are separated by tabs below each other. A column goes on
// through all lines that have a cell after it, as in text/tabwriter. Tables that
// are wider than the screen have their widest columns narrowed: what is in them
// goes on in further lines, nothing is cut off.
func (s screen) layout(text string) string {
	if !s.colour {
		text = colours.ReplaceAllString(text, "")
	}
	var (
		out   strings.Builder
		block [][]string
	)
	flush := func() {
		s.block(&out, block)
		block = nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.Contains(line, "\t") {
			block = append(block, strings.Split(line, "\t"))
			continue
		}
		flush()
		lines := []string{line}
		if s.width > 0 && visible(line) > s.width {
			lines = wrapCell(line, s.width)
		}
		for _, l := range lines {
			out.WriteString(l + "\n")
		}
	}
	flush()
	return out.String()
}

// block lays out lines that follow each other and have more than one cell.
func (s screen) block(out io.Writer, rows [][]string) {
	if s.width > 0 {
		rows = narrow(rows, s.width)
	}
	widths := make([][]int, len(rows)) // of each cell but the last of a line
	for i, row := range rows {
		widths[i] = make([]int, len(row)-1)
	}
	for i, row := range rows {
		for k := range len(row) - 1 {
			if i > 0 && k < len(widths[i-1]) {
				widths[i][k] = widths[i-1][k]
				continue
			}
			for j := i; j < len(rows) && k < len(widths[j]); j++ {
				widths[i][k] = max(widths[i][k], visible(rows[j][k]))
			}
		}
	}
	for i, row := range rows {
		var line strings.Builder
		for k, cell := range row {
			line.WriteString(cell)
			if k < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i][k]+columnGap-visible(cell)))
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
}

// narrow wraps cells so that no line is wider than width, if that can be.
func narrow(rows [][]string, width int) [][]string {
	var widest []int
	for _, row := range rows {
		for k, cell := range row {
			if k == len(widest) {
				widest = append(widest, 0)
			}
			widest[k] = max(widest[k], visible(cell))
		}
	}
	limit := width - columnGap*(len(widest)-1)
	if sum(widest, limit) <= limit {
		return rows
	}
	most := narrowColumn // that a column may have
	for m := limit; m > narrowColumn; m-- {
		if sum(widest, m) <= limit {
			most = m
			break
		}
	}
	var wrapped [][]string
	for _, row := range rows {
		wrapped = append(wrapped, wrapRow(row, most)...)
	}
	return wrapped
}

// sum is how wide columns are together when none is wider than most.
func sum(widths []int, most int) (n int) {
	for _, w := range widths {
		n += min(w, most)
	}
	return n
}

// wrapRow is a row as several lines, the later ones with what did not fit.
func wrapRow(row []string, most int) [][]string {
	pieces, lines := make([][]string, len(row)), 1
	for k, cell := range row {
		pieces[k] = wrapCell(cell, most)
		lines = max(lines, len(pieces[k]))
	}
	out := make([][]string, lines)
	for i := range out {
		out[i] = make([]string, len(row))
		for k, p := range pieces {
			if i < len(p) {
				out[i][k] = p[i]
			}
		}
	}
	return out
}

// wrapCell cuts a text where a word ends, else after a sign that separates, else
// anywhere.
func wrapCell(text string, most int) (lines []string) {
	if m := toned.FindStringSubmatch(text); m != nil {
		for _, piece := range wrapCell(m[2], most) {
			lines = append(lines, tone{m[1], piece}.String())
		}
		return lines
	}
	left := []rune(text)
	for len(left) > most {
		cut, next := most, most
		if i := lastIndex(left[:most+1], " "); i > 0 {
			cut, next = i, i+1
		} else if i := lastIndex(left[:most], ",:;/_-."); i >= most/2 {
			cut, next = i+1, i+1
		}
		lines = append(lines, string(left[:cut]))
		left = left[next:]
	}
	return append(lines, string(left))
}

func lastIndex(text []rune, of string) int {
	for i, r := range slices.Backward(text) {
		if strings.ContainsRune(of, r) {
			return i
		}
	}
	return -1
}
