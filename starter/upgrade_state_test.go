package starter

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/accepting"
	"github.com/start-server/start-server/internal/copies"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/socket"
	"github.com/start-server/start-server/internal/steer"
)

var golden = flag.Bool("golden", false, "write testdata/upgrade-state-1.json; only before the release")

// example has something in every field.
func example() *upgradeState {
	interval := 10 * time.Second
	c := NewConfig("worker", "--verbose")
	c.Ports, c.Paths = []string{"80=5"}, []string{"/run/app.sock"}
	c.AutoRestart, c.AutoRestartInterval = true, &interval
	c.PIDFile, c.StatusFile, c.LogFile, c.Daemonize = "pid", "status", "| cat", true
	c.ReadyTimeout, c.KillTimeout = time.Minute, 30*time.Second
	return &upgradeState{
		Version:    1,
		Args:       []string{"--port=80=5", "--path=/run/app.sock", "--", "worker", "--verbose"},
		Config:     c.encode(),
		Executable: "/usr/bin/start_server",
		State: state{
			Phase: starting, Generation: 7, RestartPending: true, SocketReplaced: true, Restarting: true, ReadySent: true,
			Candidate:   &worker{PID: 107, Generation: 7, Dead: true, Status: 256, Since: time.Date(2026, 11, 21, 12, 0, 42, 0, time.UTC)},
			Current:     &worker{PID: 105, Generation: 5, Started: true, StatusText: "serving"},
			Old:         []*worker{{PID: 104, Generation: 4, Started: true, StopSent: true, KillAt: 70 * time.Second}},
			LastStartAt: 42 * time.Second, StartedAt: 40 * time.Second, Deadline: 43 * time.Second,
			Restart: restart{
				Number: 2, Result: inProgress, Attempts: 3, Generation: 7, Reason: "exit status 1",
				BeganAt: 41 * time.Second, EndedAt: 42 * time.Second,
			},
			Failed:    failedAttempts{Count: 2, Reason: "exit status 1"},
			FirstStep: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
			StopAt:    80 * time.Second, StopSignal: syscall.SIGTERM,
		},
		Now:     42500 * time.Millisecond,
		Signals: []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1},
		Notices: []notice{{PID: 105, Message: sdnotify.Message{Ready: true, Status: "serving", HasStatus: true, Extend: time.Second, Process: "{}"}}},
		partStates: partStates{
			Sockets: []*socket.Socket{
				{Key: "80", FD: 10, RequestedFD: 5, Name: "80", Listening: true, Given: true, Stored: true},
				{Key: "/run/app.sock", FD: 11, RequestedFD: -1, Name: "_run_app.sock", Path: "/run/app.sock", Device: 1 << 40, Inode: 1<<63 + 1},
			},
			Inherited:     []int{3, 8},
			Steered:       []*steer.Group{{FDs: []int{20, 10}, Places: map[int]int{5: 1}, Newest: 1}},
			StatusWritten: true,
			StatusPending: true,
			Unsent:        []string{"READY=1"},
			PIDFile:       12,
			Log:           logState{Pipe: [2]int{13, 14}, Output: [2]int{15, 16}, PID: 103, Unwritten: []byte("\xff\n"), Dropped: 2},
			Receivers:     []receiverState{{Worker: 105, Descriptor: 17, Address: "@start_server/100/5/SECRET"}},
			Adopted:       []adoptedState{{Worker: 104, Descriptor: 18}},
			Copies: copies.List{105: {{
				Number: 1, PID: 106, State: copies.Stopping, Since: time.Date(2026, 11, 21, 12, 0, 42, 0, time.UTC),
				Text: "busy", Late: true, Status: 256, Error: "fork", Clock: 42,
				Report: accepting.Report{Missing: []string{"80"}, Unseen: "hidden"},
			}}},
		},
		GuardPipe: 19,
	}
}

// TestExampleHasEverything checks that the golden file has a value for each field: one that is
// missing there may be renamed by accident.
func TestExampleHasEverything(t *testing.T) {
	t.Parallel()
	var tree any
	text, err := json.Marshal(example())
	if err == nil {
		err = json.Unmarshal(text, &tree)
	}
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	noteValues(has, "", tree)
	for name, ok := range has {
		if !ok && !strings.HasPrefix(name, ".config.") && name != ".state.phase" { // 0 is a phase
			t.Errorf("%s has no value", name)
		}
	}
}

// noteValues notes for each field whether it has a value other than zero. Workers are of one kind,
// wherever they are.
func noteValues(has map[string]bool, name string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			noteValues(has, name+"."+key, v)
		}
	case []any:
		for _, v := range value {
			noteValues(has, name, v)
		}
		has[name] = has[name] || len(value) > 0
	default:
		for _, worker := range []string{".candidate", ".current", ".old"} {
			name = strings.Replace(name, ".state"+worker, ".state.worker", 1)
		}
		has[name] = has[name] || value != nil && value != 0.0 && value != "" && value != false && value != "0001-01-01T00:00:00Z"
	}
}

// TestUpgradeState checks that the state is the same after it was written and read.
func TestUpgradeState(t *testing.T) {
	s := example()
	got, err := readUpgradeState(variableWith(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, got, cmp.AllowUnexported(upgradeState{}), cmpopts.IgnoreUnexported(steer.Group{})); diff != "" {
		t.Errorf("state (-written +read):\n%s", diff)
	}
}

// variableWith writes the state to a file and returns a variable that names its descriptor.
func variableWith(t *testing.T, s *upgradeState) string {
	t.Helper()
	fd, err := anonymousFile()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second write replaces the first
		if err := s.write(fd); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(probeVariable, strconv.Itoa(fd))
	return probeVariable
}

func TestReadUpgradeStateErrors(t *testing.T) {
	if s, err := readUpgradeState("START_SERVER_NONE"); s != nil || err != nil {
		t.Errorf("without a variable: %v, %v", s, err)
	}
	for _, value := range []string{"", "x", "-1", "2", "1000000"} {
		t.Setenv(probeVariable, value)
		if s, err := readUpgradeState(probeVariable); s != nil || err == nil {
			t.Errorf("%s=%q: %v, %v; want an error", probeVariable, value, s, err)
		}
		if value, ok := os.LookupEnv(probeVariable); ok {
			t.Errorf("%s=%q is still there", probeVariable, value)
		}
	}
}

// TestUpgradeStateOfFirstRelease reads the state that release 1.0 writes. The file never changes:
// such superdaemons are running.
func TestUpgradeStateOfFirstRelease(t *testing.T) {
	const file = "testdata/upgrade-state-1.json"
	if *golden {
		text, err := json.MarshalIndent(example(), "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(text, '\n'), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseUpgradeState(text)
	if err != nil {
		t.Fatal(err)
	}
	var config bytes.Buffer
	if err := json.Compact(&config, got.Config); err != nil {
		t.Fatal(err)
	}
	want := example()
	want.State.Failed, want.Steered = failedAttempts{}, nil // came later
	if !got.compatible(configIn(t, want)) {
		t.Errorf("not compatible with its options:\n%s", config.Bytes())
	}
	got.Config, want.Config = nil, nil
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(upgradeState{})); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

func configIn(t *testing.T, s *upgradeState) (c Config) {
	t.Helper()
	if err := json.Unmarshal(s.Config, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestInvalidUpgradeState checks that states from which no superdaemon could continue are rejected.
func TestInvalidUpgradeState(t *testing.T) {
	for name, spoil := range map[string]func(s *upgradeState){
		"another version": func(s *upgradeState) { s.Version++ },
		"no version":      func(s *upgradeState) { s.Version = 0 },
		"no such phase":   func(s *upgradeState) { s.State.Phase = -1 },
		"stopping":        func(s *upgradeState) { s.State.Phase = stopping },
		"running, none serves": func(s *upgradeState) {
			s.State.Phase, s.State.Current, s.State.Candidate = running, nil, nil
			s.Receivers = nil
		},
		"running, and starting":            func(s *upgradeState) { s.State.Phase = running },
		"delaying, and starting":           func(s *upgradeState) { s.State.Phase = delaying },
		"pid -1":                           func(s *upgradeState) { s.State.Current.PID = -1 },
		"pid 0":                            func(s *upgradeState) { s.State.Candidate.PID = 0 },
		"pid 1":                            func(s *upgradeState) { s.State.Old[0].PID = 1 },
		"the same pid twice":               func(s *upgradeState) { s.State.Old[0].PID = s.State.Current.PID },
		"no old worker":                    func(s *upgradeState) { s.State.Old[0] = nil },
		"a dead old worker":                func(s *upgradeState) { s.State.Old[0].Dead = true },
		"a dead current worker":            func(s *upgradeState) { s.State.Current.Dead = true },
		"generation 0":                     func(s *upgradeState) { s.State.Old[0].Generation = 0 },
		"a generation to come":             func(s *upgradeState) { s.State.Candidate.Generation++ },
		"KILL before the beginning":        func(s *upgradeState) { s.State.Old[0].KillAt = -1 },
		"a clock that was turned back":     func(s *upgradeState) { s.Now = 0 },
		"due before the beginning":         func(s *upgradeState) { s.State.Deadline = -1 },
		"standard error as a socket":       func(s *upgradeState) { s.Sockets[0].FD = 2 },
		"descriptor -1":                    func(s *upgradeState) { s.Sockets[0].FD = -1 },
		"a huge descriptor":                func(s *upgradeState) { s.Sockets[0].FD = 1 << 30 },
		"the same descriptor twice":        func(s *upgradeState) { s.Sockets[0].FD = s.Sockets[1].FD },
		"an inherited descriptor":          func(s *upgradeState) { s.Sockets[0].FD = s.Inherited[0] },
		"inherited standard input":         func(s *upgradeState) { s.Inherited[0] = 0 },
		"no socket":                        func(s *upgradeState) { s.Sockets[1] = nil },
		"requested -2":                     func(s *upgradeState) { s.Sockets[0].RequestedFD = -2 },
		"a huge requested number":          func(s *upgradeState) { s.Sockets[0].RequestedFD = 1 << 30 },
		"no group of sockets":              func(s *upgradeState) { s.Steered[0] = nil },
		"a group without its socket":       func(s *upgradeState) { s.Steered[0].FDs[1] = 21 },
		"a group with another descriptor":  func(s *upgradeState) { s.Steered[0].FDs[0] = 18 },
		"a place that a group has not":     func(s *upgradeState) { s.Steered[0].Places[5] = 2 },
		"the pid file at 0":                func(s *upgradeState) { s.PIDFile = 0 },
		"the log at 0":                     func(s *upgradeState) { s.Log.Pipe[0] = 0 },
		"half a log":                       func(s *upgradeState) { s.Log.Pipe, s.Log.Output = [2]int{}, [2]int{} },
		"log command -1":                   func(s *upgradeState) { s.Log.PID = -1 },
		"half a line":                      func(s *upgradeState) { s.Log.Unwritten = []byte("half") },
		"a notify socket without a worker": func(s *upgradeState) { s.Receivers[0].Worker = 1000 },
		"a notify socket at 1":             func(s *upgradeState) { s.Receivers[0].Descriptor = 1 },
		"no executable":                    func(s *upgradeState) { s.Executable = "" },
		"a relative executable":            func(s *upgradeState) { s.Executable = "start_server" },
	} {
		s := example()
		spoil(s)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseUpgradeState(text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestUpgradeStateNotUTF8 checks that a name which JSON cannot represent is an error.
func TestUpgradeStateNotUTF8(t *testing.T) {
	fd, err := anonymousFile()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	s := example()
	s.Sockets[1].Path = "/run/caf\xe9"
	if err := s.write(fd); err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("write: %v", err)
	}
	s.Sockets[1].Path = "/run/café\ufffd"
	if err := s.write(fd); err != nil {
		t.Error(err)
	}
}

func FuzzParseUpgradeState(f *testing.F) {
	text, err := json.Marshal(example())
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(text), "", "{}", "null", "[]", `{"version":1}`,
		`{"version":1,"state":{"old":[null]},"receivers":[{}]}`,
		`{"version":1,"executable":"/x","pid_file":-1,"state":{"phase":1,"generation":1,"current":{"pid":2,"generation":1}}}`,
		`{"version":1,"executable":"/x","pid_file":-1,"config":{"Ports":null,"Interval":1e9},"sockets":[null]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseUpgradeState(text)
		if err != nil {
			return
		}
		s.compatible(Config{})
		first, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseUpgradeState(first)
		if err != nil {
			t.Fatalf("%q was accepted, but %q is not: %v", text, first, err)
		}
		if second, err := json.Marshal(again); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%q becomes %q, %v", first, second, err)
		}
		runState(s)
	})
}

// runState runs a supervisor from a state. It must not panic, and a stop must end it.
func runState(s *upgradeState) {
	w := &world{children: map[int]*child{}, random: rand.New(rand.NewPCG(0, 0)), pids: 1 << 30}
	sup := newSupervisor(rules{interval: 1, killTimeout: 1, signalOnHUP: sigTERM, signalOnTERM: sigTERM}, w)
	w.sup, sup.state = sup, s.State
	sup.beginStep(s.Now, time.Time{}, settings{})
	for _, n := range s.Notices {
		sup.onStatus(n.PID, n.Status)
		sup.onExtend(n.PID, n.Extend)
		sup.onReady(n.PID)
	}
	for _, sig := range s.Signals {
		sup.onSignal(sig)
	}
	sup.onTimer()
	sup.onSignal(syscall.SIGTERM)
	for _, old := range append(sup.Old[:0:0], sup.Old...) {
		sup.onExit(old.PID, 0)
	}
	if sup.Phase != stopped {
		panic("a stop does not end it")
	}
}

func TestAnswer(t *testing.T) {
	same := func([]string) (Config, error) { return configIn(t, example()), nil }
	changed := func(change func(*Config)) func([]string) (Config, error) {
		return func([]string) (Config, error) {
			c := configIn(t, example())
			change(&c)
			return c, nil
		}
	}
	for name, test := range map[string]struct {
		config func([]string) (Config, error)
		spoil  func(*upgradeState)
		err    string
	}{
		"the same":         {config: same},
		"a new option":     {config: changed(func(c *Config) { c.Backlog = 5 }), spoil: without("Backlog")},
		"another option":   {config: changed(func(c *Config) { c.Interval++ }), err: "mean something else"},
		"one port less":    {config: changed(func(c *Config) { c.Ports = nil }), err: "mean something else"},
		"another interval": {config: changed(func(c *Config) { *c.AutoRestartInterval++ }), err: "mean something else"},
		"a removed option": {config: same, err: "mean something else",
			spoil: func(s *upgradeState) { s.Config = append([]byte(`{"Gone":1,`), s.Config[1:]...) }},
		"invalid":           {config: changed(func(c *Config) { c.Interval = -1 }), err: "--interval"},
		"an unknown option": {config: func([]string) (Config, error) { return Config{}, errors.New("unknown option") }, err: "unknown option"},
		"no pid file":       {config: same, spoil: func(s *upgradeState) { s.PIDFile = -1 }, err: "mean something else"},
		"no log":            {config: same, spoil: func(s *upgradeState) { s.Log = logState{} }, err: "mean something else"},
		"another version":   {config: same, spoil: func(s *upgradeState) { s.Version = 2 }, err: "version 2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := example()
			if test.spoil != nil {
				test.spoil(s)
			}
			variableWith(t, s)
			var answer strings.Builder
			err := AnswerUpgradeCheck(&answer, test.config)
			if test.err == "" && (err != nil || answer.String() != answerPrefix+"1\n") || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("answer %q, %v", answer.String(), err)
			}
			if test.err != "" && answer.Len() > 0 {
				t.Errorf("answer %q", answer.String())
			}
		})
	}
	if err := AnswerUpgradeCheck(nil, nil); err != nil {
		t.Errorf("not a candidate: %v", err)
	}
}

// without removes an option from the state, as if the previous superdaemon did not have it.
func without(option string) func(*upgradeState) {
	return func(s *upgradeState) {
		var fields map[string]json.RawMessage
		_ = json.Unmarshal(s.Config, &fields)
		delete(fields, option)
		s.Config, _ = json.Marshal(fields)
	}
}

// TestProbeThatHangs checks a candidate that never answers.
func TestProbeThatHangs(t *testing.T) {
	var lines []string
	u := &upgrader{
		executable: filepath.Join(t.TempDir(), "start_server"),
		save:       func() *upgradeState { return &upgradeState{} },
		exec:       func(*probe) error { t.Error("the candidate is executed"); return nil },
		log:        func(line string) { lines = append(lines, line) },
	}
	if err := os.WriteFile(u.executable, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := u.startProbe(); err != nil {
		t.Fatal(err)
	}
	p := u.probe
	if wait := u.runPending(); wait <= 0 || wait > probeTimeout {
		t.Errorf("runPending = %v", wait)
	}
	p.deadline = time.Now()
	u.runPending()
	for deadline := time.Now().Add(20 * time.Second); p.pid != 0; {
		if pid, status, ok := process.Reap(); ok && !u.onExit(pid, status) {
			t.Errorf("onExit does not handle process %d", pid)
		}
		if time.Now().After(deadline) {
			t.Fatal("the candidate was not killed")
		}
		time.Sleep(time.Millisecond)
	}
	if u.runPending() != 0 || u.probe != nil {
		t.Error("the upgrade is not over")
	}
	if len(lines) != 1 || !strings.Contains(lines[0], "does not answer within 10 secs") {
		t.Errorf("the log: %q", lines)
	}
}
