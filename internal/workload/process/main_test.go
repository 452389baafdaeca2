package process

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary is three programs: the tests, the shim, and (with childEnv)
// the command that the tests run.
const childEnv = "PROCESS_TEST_CHILD"

func TestMain(m *testing.M) {
	RunShimIfAsked()
	if os.Getenv(childEnv) != "" {
		child(os.Args[1:])
		os.Exit(0)
	}
	// A program under the race detector sleeps for a second when it exits, and
	// these tests start and end hundreds.
	os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}

// child is a command with every bad habit, by flag.
func child(args []string) {
	f := flag.NewFlagSet("child", flag.ExitOnError)
	f.String("mark", "", "found again in the process table")
	listen := f.String("listen", "", "address to serve HTTP on")
	slow := f.Duration("slow", 0, "wait before listening")
	after := f.String("after", "", "listen only once this file exists")
	say := f.String("say", "", "a line for stderr, first of all")
	exit := f.Int("exit", -1, "exit with this code instead of serving")
	flood := f.Int("flood", 0, "MiB to write to each of stdout and stderr, in lines, before listening")
	endless := f.Int("endless", 0, "MiB to write to stdout without an end of line, before listening")
	deaf := f.Bool("deaf", false, "ignore SIGTERM")
	family := f.Bool("family", false, "leave a child, a child in a session of its own, and a daemonised grandchild behind")
	orphan := f.Bool("orphan", false, "start a sleeper in a session of its own and exit")
	sleep := f.Bool("sleep", false, "do nothing until killed, SIGTERM or not")
	burn := f.Duration("burn", 0, "use so much processor time, then exit")
	burners := f.Int("burners", 0, "let so many children one after the other burn 100 ms each before listening")
	lostBurner := f.Duration("lost-burner", 0, "let an orphan burn so much, and go on")
	orphanBurn := f.Duration("orphan-burn", 0, "start a burner and exit")
	supervise := f.String("supervise", "", "run a Supervisor with this Spec (JSON) and 2 replicas, report on stdout")
	ignore := f.Bool("ignore-interrupt", false, "with supervise: do not die of a SIGINT")
	_ = f.Parse(args)

	if *say != "" {
		fmt.Fprintln(os.Stderr, *say)
	}
	if *exit >= 0 {
		os.Exit(*exit)
	}
	if *burn > 0 {
		for used := time.Duration(0); used < *burn; {
			var ru syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
			used = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
		}
		return
	}
	if *deaf || *sleep {
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	}
	if *sleep {
		select {}
	}
	mark := "-mark=" + f.Lookup("mark").Value.String()
	spawn := func(session bool, args ...string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], append([]string{mark}, args...)...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		return cmd
	}
	if *orphan {
		spawn(true, "-sleep")
		return
	}
	if *orphanBurn > 0 {
		spawn(true, "-burn="+orphanBurn.String())
		return
	}
	if *lostBurner > 0 {
		_ = spawn(true, "-orphan-burn="+lostBurner.String()).Wait()
	}
	if *family {
		spawn(false, "-sleep")
		spawn(true, "-sleep")
		_ = spawn(true, "-orphan").Wait()
	}
	for range *burners {
		_ = spawn(false, "-burn=100ms").Wait()
	}
	if *flood > 0 {
		line := bytes.Repeat([]byte("flood "), 20)
		line[len(line)-1] = '\n'
		many := bytes.Repeat(line, 64)
		for n := 0; n < *flood<<20; n += len(many) {
			os.Stdout.Write(many)
			os.Stderr.Write(many)
		}
	}
	for n := 0; n < *endless<<20; n += 1 << 16 {
		os.Stdout.Write(bytes.Repeat([]byte("x"), 1<<16))
	}
	if *supervise != "" {
		superviseChild(*supervise, *ignore)
		return
	}
	time.Sleep(*slow) // the flaw that is simulated, not a synchronisation
	for *after != "" {
		if _, err := os.Stat(*after); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if *listen != "" {
		l, err := net.Listen("tcp", *listen)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		healthy := true
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			switch req.URL.Path {
			case "/healthz":
				if !healthy {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			case "/sicken":
				healthy = false
			case "/heal":
				healthy = true
			case "/moved":
				w.Header().Set("Location", "/nowhere")
				w.WriteHeader(http.StatusFound)
			case "/log":
				fmt.Println(req.URL.Query().Get("line"))
			case "/exit":
				code, _ := strconv.Atoi(req.URL.Query().Get("code"))
				os.Exit(code)
			case "/panic":
				go panic("the end is near")
			case "/fds":
				fmt.Fprint(w, strings.Join(openFDs(), "\n"))
			case "/echo":
				_ = json.NewEncoder(w).Encode(map[string]any{
					"pid": os.Getpid(), "args": os.Args[1:], "env": os.Environ(),
				})
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}))
	}
	select {}
}

// superviseChild is the daemon of the tests that kill the daemon.
func superviseChild(specJSON string, ignore bool) {
	if ignore {
		signal.Ignore(syscall.SIGINT)
	}
	var spec Spec
	if err := json.Unmarshal([]byte(specJSON), &spec); err != nil {
		panic(err)
	}
	o := Options{BackoffBase: 10 * time.Millisecond, SampleEvery: 20 * time.Millisecond}
	again := make(chan os.Signal, 1)
	if held := os.Getenv(heldEnv); held != "" {
		b, err := os.ReadFile(held)
		if err != nil {
			panic(err)
		}
		if err := json.Unmarshal(b, &o.Held); err != nil {
			panic(err)
		}
	}
	sup := New(o)
	if err := sup.Set("daemon/v1", spec, 2); err != nil {
		panic(err)
	}
	signal.Notify(again, syscall.SIGUSR2)
	for {
		list := sup.List()
		if !slices.ContainsFunc(list, func(r Replica) bool { return !r.Ready }) && len(list) == 2 {
			lines := sup.Logs("", -1)
			lost := 0
			for i, l := range lines {
				if l.Seq != uint64(i+1) {
					lost++
				}
			}
			fmt.Println("ready", list[0].PID, list[1].PID)
			fmt.Println("with", list[0].PID, list[1].PID, list[0].Restarts, list[1].Restarts, lost,
				list[0].CPUSeconds > 0, list[0].Created.Format(time.RFC3339Nano))
		}
		select {
		case <-sup.Changed():
		case <-again:
			reexec(sup)
		}
	}
}

const heldEnv = "PROCESS_TEST_HELD"

// reexec executes this program again, in the same process, with its replicas.
func reexec(sup *Supervisor) {
	signal.Ignore(syscall.SIGUSR2)
	held, keep := sup.HandOver()
	b, err := json.Marshal(held)
	if err != nil {
		panic(err)
	}
	f, err := os.CreateTemp("", "held")
	if err != nil {
		panic(err)
	}
	if _, err := f.Write(b); err != nil {
		panic(err)
	}
	for _, fd := range keep {
		if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFD, 0); errno != 0 {
			panic(errno)
		}
	}
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, heldEnv+"=") })
	panic(syscall.Exec("/proc/self/exe", os.Args, append(env, heldEnv+"="+f.Name())))
}

// openFDs lists this process's own descriptors and what they are, without those
// that Go's runtime and the server itself have opened.
func openFDs() []string {
	var fds []string
	for fd := range 1 << 10 {
		var st syscall.Stat_t
		if syscall.Fstat(fd, &st) != nil {
			continue
		}
		// What this program opens itself is close-on-exec; what it inherited is not.
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			fds = append(fds, strconv.Itoa(fd))
		}
	}
	return fds
}

// spec is a well-behaved server with more flags; mark finds its processes again.
func spec(mark string, flags ...string) Spec {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Spec{
		Command: append([]string{exe, "-mark=" + mark, "-listen=$(HOST):$(PORT)"}, flags...),
		Env:     []EnvVar{{childEnv, "1"}},
		Ready: Probe{
			HTTP:   &HTTPGet{Path: "/healthz"},
			Period: 20 * time.Millisecond,
			// The machine that runs the tests may be busy: slowness is no failure here.
			Timeout: 10 * time.Second,
		},
		TerminationGracePeriod: time.Minute,
	}
}

// newSupervisor returns a Supervisor that is closed with the test, and the mark
// of its processes; the test fails if one of them is left then.
func newSupervisor(t *testing.T, o Options) (*Supervisor, string) {
	t.Helper()
	mark := rand.Text()
	if o.BackoffBase == 0 {
		o.BackoffBase = 10 * time.Millisecond
	}
	if o.Logger == nil && testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	sup := New(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := sup.Close(ctx); err != nil {
			t.Errorf("closing: %v", err)
		}
		if left := alive(t, mark); len(left) > 0 {
			t.Errorf("after Close processes are left: %v", left)
			for _, pid := range left { // a failed test must not leave them to the machine
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	return sup, mark
}

// patient is the bound of every wait for a condition: far more than a healthy
// machine needs, so that it is met only by what never comes.
const patient = 60 * time.Second

// eventually waits for cond; describe says what was there instead.
func eventually(t *testing.T, what string, cond func() bool, describe func() any) {
	t.Helper()
	deadline := time.After(patient)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("waited %s for: %s\ngot: %+v", patient, what, describe())
		case <-tick.C:
		}
	}
}

// until waits until the replicas of key are as cond wants them.
func until(t *testing.T, sup *Supervisor, key, what string, cond func([]Replica) bool) []Replica {
	t.Helper()
	var last []Replica
	eventually(t, what, func() bool {
		last = of(sup, key)
		return cond(last)
	}, func() any { return last })
	return last
}

func of(sup *Supervisor, key string) []Replica {
	return slices.DeleteFunc(sup.List(), func(r Replica) bool { return r.Key != key })
}

// ready is a condition: exactly n replicas, all ready.
func ready(n int) func([]Replica) bool {
	return func(rs []Replica) bool {
		return len(rs) == n && !slices.ContainsFunc(rs, func(r Replica) bool { return !r.Ready })
	}
}

// alive lists the processes of a mark, whoever their parent is now.
func alive(t *testing.T, mark string) (pids []int) {
	t.Helper()
	needle := "-mark=" + mark
	if runtime.GOOS == "linux" {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil || pid == os.Getpid() {
				continue
			}
			args, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline") // empty for a zombie
			if slices.Contains(strings.Split(string(args), "\x00"), needle) {
				pids = append(pids, pid)
			}
		}
		return pids
	}
	out, err := exec.Command("ps", "-axwwo", "pid=,args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) > 1 && slices.Contains(f[1:], needle) {
			pid, _ := strconv.Atoi(f[0])
			pids = append(pids, pid)
		}
	}
	return pids
}

// get asks a replica and returns its answer.
func get(t *testing.T, r Replica, path string) (string, error) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patient}
	resp, err := client.Get("http://" + r.Addr + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func mustGet(t *testing.T, r Replica, path string) string {
	t.Helper()
	s, err := get(t, r, path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// daemon starts a process that supervises two replicas of spec, and returns it
// when both are ready, with the pids of their commands.
func daemon(t *testing.T, s Spec, flags ...string) (cmd *exec.Cmd, pids []int) {
	t.Helper()
	cmd, pids, _ = talkingDaemon(t, s, flags...)
	return cmd, pids
}

// talkingDaemon is daemon, with what it says next.
func talkingDaemon(t *testing.T, s Spec, flags ...string) (cmd *exec.Cmd, pids []int, says *bufio.Reader) {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(os.Args[0], append(flags, "-supervise="+string(b))...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	says = bufio.NewReader(out)
	line, err := says.ReadString('\n')
	if err != nil {
		t.Fatalf("the supervising process said nothing: %v", err)
	}
	for _, f := range strings.Fields(line)[1:] {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return cmd, pids, says
}
