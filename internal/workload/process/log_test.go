package process

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func testLogs() *logs { return newLogs(Options{LogLines: 10, LogBytes: 100, LogLineSize: 20}) }

func texts(lines []Line) (s []string) {
	for _, l := range lines {
		t := l.Text
		if l.Cut {
			t += "|"
		}
		s = append(s, t)
	}
	return s
}

func TestPumpCutsLinesAndBoundsTheRing(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"lines":           {"a\nb\r\n\nc\n", []string{"a", "b", "", "c"}},
		"unfinished line": {"a\nb", []string{"a", "b"}},
		"exactly fits":    {strings.Repeat("x", 20) + "\ny\n", []string{strings.Repeat("x", 20), "y"}},
		"too long":        {strings.Repeat("x", 21) + "\ny\n", []string{strings.Repeat("x", 20) + "|", "y"}},
		"far too long":    {strings.Repeat("x", 1<<20) + "\ny\n", []string{strings.Repeat("x", 20) + "|", "y"}},
		"never ends":      {strings.Repeat("x", 1<<20), []string{strings.Repeat("x", 20) + "|"}},
		"not UTF-8":       {"a\xffb\n", []string{"a\uFFFDb"}},
		"too many":        {strings.Repeat("n\n", 50), strings.Split(strings.Repeat("n", 10), "")},
		"too many bytes":  {strings.Repeat(strings.Repeat("x", 20)+"\n", 8), strings.Split(strings.TrimSuffix(strings.Repeat(strings.Repeat("x", 20)+",", 5), ","), ",")},
		"nothing":         {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := testLogs()
			l.pump(strings.NewReader(c.in), Stdout, l.open("k", "r"), &lastWords{}, &pump{})
			lines, _, _ := l.last(reader{}, "k", -1)
			if got := texts(lines); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestSlowReaderLearnsWhatItLost(t *testing.T) {
	l := testLogs()
	r := l.open("k", "r")
	at := reader{}
	total := uint64(0)
	for round := range 20 {
		l.pump(strings.NewReader(strings.Repeat("n\n", round*3)), Stdout, r, &lastWords{}, &pump{})
		lines, _, _ := l.next(at, "k")
		for _, line := range lines {
			total += 1 + line.Lost
		}
	}
	if want := uint64(3 * 190); total != want {
		t.Errorf("read and lost %d lines, written %d", total, want)
	}
}

func TestLogsOfTheGoneAreRememberedForAWhile(t *testing.T) {
	l := testLogs()
	for i := range 2 * rememberedLogs {
		r := l.open("k", fmt.Sprint("r", i))
		l.pump(strings.NewReader("bye\n"), Stderr, r, &lastWords{}, &pump{})
		l.retire(r)
	}
	lines, _, _ := l.last(reader{}, "k", -1)
	if len(lines) != rememberedLogs || lines[0].Replica != fmt.Sprint("r", rememberedLogs) {
		t.Errorf("%d logs, the first of %s", len(lines), lines[0].Replica)
	}
}

func TestFollow(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	if err := sup.Set("app/v1", spec(mark, "-say=hello"), 2); err != nil {
		t.Fatal(err)
	}
	rs := until(t, sup, "app/v1", "2 ready", ready(2))
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	var got []string
	for line := range sup.Follow(ctx, "app/v1", -1) {
		got = append(got, line.Text)
		switch len(got) {
		case 2, 3: // the next line is written when the last has been read
			mustGet(t, rs[len(got)-2], "/log?line="+url.QueryEscape(fmt.Sprint("line ", len(got))))
		}
		if len(got) == 4 {
			break
		}
	}
	if fmt.Sprint(got) != "[hello hello line 2 line 3]" {
		t.Errorf("followed %q", got)
	}
	if tail := texts(sup.Logs("app/v1", 1)); len(tail) != 1 || tail[0] != "line 3" {
		t.Errorf("tail %q", tail)
	}
	// The end of the Supervisor ends a reader.
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range sup.Follow(context.Background(), "", 0) {
		}
	}()
	if err := sup.Close(ctx); err != nil {
		t.Error(err)
	}
	<-over
}

// A process that writes more than anybody keeps is not held up by it, and holds
// up nobody: it becomes ready only after it has written everything, while the
// slowest of readers looks on.
func TestFloodBlocksNobody(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	if err := sup.Set("calm", spec(mark), 1); err != nil {
		t.Fatal(err)
	}
	until(t, sup, "calm", "ready", ready(1))
	for key, s := range map[string]Spec{"flood": spec(mark, "-flood=16"), "endless": spec(mark, "-endless=16")} {
		if err := sup.Set(key, s, 1); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seen, stuck := make(chan struct{}), make(chan struct{})
	left := make(chan struct{})
	go func() { // stops reading at its first line
		defer close(left)
		for range sup.Follow(ctx, "flood", -1) {
			close(seen)
			<-stuck
			return
		}
	}()
	<-seen
	until(t, sup, "flood", "ready", ready(1))
	until(t, sup, "endless", "ready", ready(1))
	if rs := of(sup, "calm"); !ready(1)(rs) || rs[0].Restarts != 0 {
		t.Errorf("the calm one suffered: %+v", rs)
	}
	lines := sup.Logs("flood", -1)
	size := 0
	for _, line := range lines {
		size += len(line.Text)
	}
	if len(lines) > 1000 || size > 256<<10 {
		t.Errorf("%d lines and %d bytes are kept", len(lines), size)
	}
	close(stuck)
	<-left
}
