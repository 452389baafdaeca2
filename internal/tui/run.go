package tui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// Host is what the screen needs of whoever runs the rollout.
type Host interface {
	Watch(ctx context.Context, ref httpapi.Ref, see func(httpapi.Update) error) error
	Command(ctx context.Context, ref httpapi.Ref, c rollout.Command) (httpapi.Answer, error)
}

// logReader is a host that has the replicas' logs.
type logReader interface {
	Logs(ctx context.Context, ref httpapi.Ref, q httpapi.LogQuery, emit func(httpapi.LogLine) error) error
}

// rememberer is a host that knows how a rollout went before the screen was opened.
type rememberer interface {
	Series(ctx context.Context, ref httpapi.Ref, since time.Time) (httpapi.Series, error)
}

// Options of one screen. All are needed but Follow.
type Options struct {
	Host    Host
	Ref     httpapi.Ref
	User    string // author of commands
	Follow  bool   // go on with the next rollout
	In, Out *os.File
	Env     func(string) string
	Now     func() time.Time
	NewID   func(rollout.Verb) string
}

// Run draws until the rollout ends, a person leaves, or ctx ends; the terminal
// is then as it was. It gives the last view that was seen, and whether the
// rollout came to its end before.
func Run(ctx context.Context, o Options) (last httpapi.RolloutView, ended bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &screen{ctx: ctx, o: o, model: Model{Now: o.Now(), Color: o.Env("NO_COLOR") == ""}}
	p := tea.NewProgram(s, tea.WithInput(o.In), tea.WithOutput(o.Out), tea.WithoutSignalHandler())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		err := o.Host.Watch(ctx, o.Ref, func(u httpapi.Update) error {
			if u.View == nil {
				return fmt.Errorf("rollout %s is gone", o.Ref)
			}
			p.Send(viewMsg{*u.View})
			return nil
		})
		if ctx.Err() == nil {
			p.Send(lostMsg{err})
		}
	}()
	ticked := make(chan struct{})
	go func() {
		defer close(ticked)
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for {
			select {
			case <-ctx.Done():
				// Asked to leave, not killed: a killed program closes its
				// input while it still reads from it.
				p.Quit()
				return
			case <-second.C:
				p.Send(tickMsg{})
			}
		}
	}()
	_, err = p.Run()
	cancel()
	<-watched
	<-ticked
	if err == nil {
		err = s.lost
	}
	if s.model.View != nil {
		last = *s.model.View
	}
	return last, s.ended, err
}

// maxTyped bounds a reason, in bytes: half of what the API takes.
const maxTyped = 512

type (
	viewMsg   struct{ v httpapi.RolloutView }
	lostMsg   struct{ err error }
	tickMsg   struct{} // a second has passed
	answerMsg struct {
		a   httpapi.Answer
		err error
	}
	pastMsg struct {
		of httpapi.RolloutView
		s  httpapi.Series
	}
	logsMsg struct {
		lines []string
		err   error
	}
)

// screen is the bubbletea side: keys and messages change the model, and the
// frame is drawn from it.
type screen struct {
	ctx           context.Context
	o             Options
	model         Model
	width, height int
	begun, ended  bool
	lost          error
}

func (s *screen) Init() tea.Cmd { return nil }

func (s *screen) View() tea.View {
	v := tea.NewView(Frame(s.model, s.width, s.height))
	v.AltScreen = true
	return v
}

func (s *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	m := &s.model
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
	case tickMsg:
		m.Now = s.o.Now()
		if m.Page == Logs && m.Now.Unix()%2 == 0 {
			return s, s.readLogs()
		}
	case viewMsg:
		first := m.View == nil
		m.View, m.Now = &msg.v, s.o.Now()
		m.Trail.Add(msg.v)
		s.begun = s.begun || httpapi.UnderWay(msg.v)
		if s.begun && !httpapi.UnderWay(msg.v) && !s.o.Follow {
			s.ended = true
			return s, tea.Quit
		}
		if first {
			return s, s.remember(msg.v)
		}
	case pastMsg:
		m.Trail.Before(msg.of, msg.s)
	case lostMsg:
		s.lost = msg.err
		return s, tea.Quit
	case answerMsg:
		m.Busy = false
		switch {
		case msg.err != nil:
			m.Said, m.Bad = msg.err.Error(), true
		default:
			m.Said, m.Bad = msg.a.Message, msg.a.Refused
		}
	case logsMsg:
		m.Lines = msg.lines
		if msg.err != nil {
			m.Lines = append(m.Lines, msg.err.Error())
		}
	case tea.PasteMsg:
		if m.Asked != nil {
			text := clean(msg.Content)
			m.Typed += strings.ToValidUTF8(text[:min(len(text), max(0, maxTyped-len(m.Typed)))], "")
		}
	case tea.KeyPressMsg:
		if m.Asked != nil {
			return s, s.typed(msg)
		}
		return s, s.pressed(msg)
	}
	return s, nil
}

// pressed is a key while nothing is being typed.
func (s *screen) pressed(k tea.KeyPressMsg) tea.Cmd {
	m := &s.model
	switch pressed := k.String(); pressed {
	case "ctrl+c", "q":
		return tea.Quit
	case "ctrl+z":
		return tea.Suspend
	case "esc":
		m.Page, m.Top = Main, 0
	case "j", "down":
		m.Top++
	case "k", "up":
		m.Top = max(0, m.Top-1)
	case "e":
		m.turn(Evidence)
	case "o":
		m.turn(Replicas)
	case "?":
		m.turn(Help)
	case "l":
		m.turn(Logs)
		return s.readLogs()
	default:
		if m.View == nil || m.Busy {
			return nil
		}
		for _, a := range Actions(*m.View) {
			if a.Key == pressed {
				m.Asked, m.Typed, m.Said = &a, "", ""
			}
		}
	}
	return nil
}

// turn opens a page, or closes it.
func (m *Model) turn(p Page) {
	if m.Page == p {
		p = Main
	}
	m.Page, m.Top = p, 0
}

// typed is a key while a reason is being typed.
func (s *screen) typed(k tea.KeyPressMsg) tea.Cmd {
	m := &s.model
	switch k.String() {
	case "ctrl+c", "esc":
		m.Asked, m.Typed = nil, ""
	case "tab":
		a := m.Asked.other()
		m.Asked = &a
	case "backspace":
		if r := []rune(m.Typed); len(r) > 0 {
			m.Typed = string(r[:len(r)-1])
		}
	case "ctrl+u":
		m.Typed = ""
	case "enter":
		if strings.TrimSpace(m.Typed) == "" {
			return nil // a reason is asked for
		}
		a, why := *m.Asked, strings.TrimSpace(m.Typed)
		m.Asked, m.Typed, m.Busy = nil, "", true
		return s.send(a, why, m.View.N)
	default:
		if len(m.Typed)+len(k.Text) <= maxTyped {
			m.Typed += clean(k.Text)
		}
	}
	return nil
}

func (s *screen) send(a Action, why string, n int) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
		defer cancel()
		answer, err := s.o.Host.Command(ctx, s.o.Ref, rollout.Command{
			ID: s.o.NewID(a.Verb), Verb: a.Verb, By: s.o.User, Reason: why, Revision: a.About, N: n, Full: a.Full,
		})
		return answerMsg{answer, err}
	}
}

// remember asks how it went so far. Without an answer the trails begin now.
func (s *screen) remember(v httpapi.RolloutView) tea.Cmd {
	h, ok := s.o.Host.(rememberer)
	if !ok || v.Canary == nil || v.Started == nil {
		return nil
	}
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
		defer cancel()
		past, err := h.Series(ctx, s.o.Ref, *v.Started)
		if err != nil {
			return nil
		}
		return pastMsg{v, past}
	}
}

// readLogs asks for the newest lines of all replicas.
func (s *screen) readLogs() tea.Cmd {
	h, ok := s.o.Host.(logReader)
	if !ok {
		return func() tea.Msg {
			return logsMsg{err: errors.New("a cluster's logs are kubectl's: `serin logs` says how")}
		}
	}
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
		defer cancel()
		var lines []httpapi.LogLine
		err := h.Logs(ctx, s.o.Ref, httpapi.LogQuery{Tail: 100}, func(l httpapi.LogLine) error {
			lines = append(lines, l)
			return nil
		})
		slices.SortStableFunc(lines, func(a, b httpapi.LogLine) int { return a.Time.Compare(b.Time) })
		var out []string
		for _, l := range lines[max(0, len(lines)-300):] {
			out = append(out, fmt.Sprintf("%s  %s  %s", clock(l.Time), l.Replica, l.Text))
		}
		return logsMsg{out, err}
	}
}
