package upgrade

import (
	"bytes"
	"encoding/json"
	"flag"
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
	"github.com/start-server/start-server/internal/deadline"
	"github.com/start-server/start-server/internal/listening"
	"github.com/start-server/start-server/internal/manager"
	"github.com/start-server/start-server/internal/output"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/socket"
	"github.com/start-server/start-server/internal/steer"
	"github.com/start-server/start-server/internal/supervisor"
	"github.com/start-server/start-server/internal/workers"
)

var golden = flag.Bool("golden", false, "write testdata/upgrade-state-1.json; only before the release")

// example has something in every field.
func example() *State {
	return &State{
		Version:    1,
		Args:       []string{"--port=80=5", "--path=/run/app.sock", "--", "worker", "--verbose"},
		Config:     []byte(`{"Program":["worker","--verbose"]}`),
		Executable: "/usr/bin/start_server",
		State: supervisor.State{
			Phase: supervisor.Starting, Generation: 7, RestartPending: true, SocketReplaced: true, Restarting: true, ReadySent: true,
			Candidate: &supervisor.Worker{PID: 107, Generation: 7, Dead: true, Status: 256, Since: time.Date(2026, 11, 21, 12, 0, 42, 0, time.UTC)},
			Current:   &supervisor.Worker{PID: 105, Generation: 5, Started: true, StatusText: "serving"},
			Old: []*supervisor.Worker{{PID: 104, Generation: 4, Started: true, StopSent: true, KillAt: 70 * time.Second, Startup: supervisor.Startup{
				Missing: []string{"80"}, Unseen: "not permitted", Grace: 5 * time.Second,
			}}},
			LastStartAt: 42 * time.Second, StartedAt: 40 * time.Second, Deadline: 43 * time.Second,
			Restart: supervisor.Restart{
				Number: 2, Result: supervisor.InProgress, Attempts: 3, Generation: 7, Reason: "exit status 1",
				BeganAt: 41 * time.Second, EndedAt: 42 * time.Second,
			},
			Failed:    supervisor.FailedAttempts{Count: 2, Reason: "exit status 1"},
			FirstStep: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
			StopAt:    80 * time.Second, StopSignal: syscall.SIGTERM,
		},
		Now:     42500 * time.Millisecond,
		Signals: []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1},
		Notices: []workers.Notice{{PID: 105, Message: sdnotify.Message{Ready: true, Status: "serving", HasStatus: true, Extend: time.Second, Process: "{}"}}},
		SocketState: listening.SocketState{
			Sockets: []*socket.Socket{
				{Key: "80", FD: 10, RequestedFD: 5, Name: "80", Listening: true, Given: true, Stored: true},
				{Key: "/run/app.sock", FD: 11, RequestedFD: -1, Name: "_run_app.sock", Path: "/run/app.sock", Device: 1 << 40, Inode: 1<<63 + 1},
			},
			Inherited: []int{3, 8},
			Steered:   []*steer.Group{{FDs: []int{20, 10}, Places: map[int]int{5: 1}, Newest: 1}},
		},
		WorkerState: workers.WorkerState{
			Receivers: []workers.ReceiverState{{Worker: 105, Descriptor: 17, Address: "@start_server/100/5/SECRET"}},
			Adopted:   []workers.AdoptedState{{Worker: 104, Descriptor: 18}},
			Copies: copies.List{105: {1: {
				Number: 1, PID: 106, State: copies.Stopping, Since: time.Date(2026, 11, 21, 12, 0, 42, 0, time.UTC),
				Text: "busy", Late: true, Status: 256, Error: "fork", Clock: 42, Report: accepting.Report{Missing: []string{"80"}, Unseen: "not permitted"},
			}}},
		},
		QueueState: manager.QueueState{Unsent: []string{"READY=1"}},
		Log:        output.State{Pipe: [2]int{13, 14}, Output: [2]int{15, 16}, PID: 103, Unwritten: []byte("\xff\n"), Dropped: 2},
		Files:      Files{PIDFile: 12, StatusWritten: true, StatusPending: true},
		GuardPipe:  19,
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
	got, err := Read(variableWith(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, got, cmpopts.IgnoreUnexported(steer.Group{})); diff != "" {
		t.Errorf("state (-written +read):\n%s", diff)
	}
}

// variableWith writes the state to a file and returns a variable that names its descriptor.
func variableWith(t *testing.T, s *State) string {
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
	if s, err := Read("START_SERVER_NONE"); s != nil || err != nil {
		t.Errorf("without a variable: %v, %v", s, err)
	}
	for _, value := range []string{"", "x", "-1", "2", "1000000"} {
		t.Setenv(probeVariable, value)
		if s, err := Read(probeVariable); s != nil || err == nil {
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
	got, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want := example()
	want.State.Failed = supervisor.FailedAttempts{} // came later
	want.State.Old[0].Startup, want.Steered, want.Copies, want.Notices[0].Process = supervisor.Startup{}, nil, nil, ""
	got.Config, want.Config = nil, nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

// TestInvalidUpgradeState checks that states from which no superdaemon could continue are rejected.
func TestInvalidUpgradeState(t *testing.T) {
	for name, spoil := range map[string]func(s *State){
		"another version": func(s *State) { s.Version++ },
		"no version":      func(s *State) { s.Version = 0 },
		"no such phase":   func(s *State) { s.State.Phase = -1 },
		"stopping":        func(s *State) { s.State.Phase = supervisor.Stopping },
		"running, none serves": func(s *State) {
			s.State.Phase, s.State.Current, s.State.Candidate = supervisor.Running, nil, nil
			s.Receivers = nil
		},
		"running, and starting":            func(s *State) { s.State.Phase = supervisor.Running },
		"delaying, and starting":           func(s *State) { s.State.Phase = supervisor.Delaying },
		"pid -1":                           func(s *State) { s.State.Current.PID = -1 },
		"pid 0":                            func(s *State) { s.State.Candidate.PID = 0 },
		"pid 1":                            func(s *State) { s.State.Old[0].PID = 1 },
		"the same pid twice":               func(s *State) { s.State.Old[0].PID = s.State.Current.PID },
		"no old worker":                    func(s *State) { s.State.Old[0] = nil },
		"a dead old worker":                func(s *State) { s.State.Old[0].Dead = true },
		"a dead current worker":            func(s *State) { s.State.Current.Dead = true },
		"generation 0":                     func(s *State) { s.State.Old[0].Generation = 0 },
		"a generation to come":             func(s *State) { s.State.Candidate.Generation++ },
		"KILL before the beginning":        func(s *State) { s.State.Old[0].KillAt = -1 },
		"a clock that was turned back":     func(s *State) { s.Now = 0 },
		"due before the beginning":         func(s *State) { s.State.Deadline = -1 },
		"standard error as a socket":       func(s *State) { s.Sockets[0].FD = 2 },
		"descriptor -1":                    func(s *State) { s.Sockets[0].FD = -1 },
		"a huge descriptor":                func(s *State) { s.Sockets[0].FD = 1 << 30 },
		"the same descriptor twice":        func(s *State) { s.Sockets[0].FD = s.Sockets[1].FD },
		"an inherited descriptor":          func(s *State) { s.Sockets[0].FD = s.Inherited[0] },
		"inherited standard input":         func(s *State) { s.Inherited[0] = 0 },
		"no socket":                        func(s *State) { s.Sockets[1] = nil },
		"requested -2":                     func(s *State) { s.Sockets[0].RequestedFD = -2 },
		"a huge requested number":          func(s *State) { s.Sockets[0].RequestedFD = 1 << 30 },
		"no group of sockets":              func(s *State) { s.Steered[0] = nil },
		"a group without its socket":       func(s *State) { s.Steered[0].FDs[1] = 21 },
		"a group with another descriptor":  func(s *State) { s.Steered[0].FDs[0] = 18 },
		"a place that a group has not":     func(s *State) { s.Steered[0].Places[5] = 2 },
		"the pid file at 0":                func(s *State) { s.PIDFile = 0 },
		"the log at 0":                     func(s *State) { s.Log.Pipe[0] = 0 },
		"half a log":                       func(s *State) { s.Log.Pipe, s.Log.Output = [2]int{}, [2]int{} },
		"log command -1":                   func(s *State) { s.Log.PID = -1 },
		"half a line":                      func(s *State) { s.Log.Unwritten = []byte("half") },
		"a notify socket without a worker": func(s *State) { s.Receivers[0].Worker = 1000 },
		"a notify socket at 1":             func(s *State) { s.Receivers[0].Descriptor = 1 },
		"no executable":                    func(s *State) { s.Executable = "" },
		"a relative executable":            func(s *State) { s.Executable = "start_server" },
	} {
		s := example()
		spoil(s)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse(text); err == nil {
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
		s, err := parse(text)
		if err != nil {
			return
		}
		first, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(first)
		if err != nil {
			t.Fatalf("%q was accepted, but %q is not: %v", text, first, err)
		}
		if second, err := json.Marshal(again); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%q becomes %q, %v", first, second, err)
		}
	})
}

// TestProbeThatHangs checks a candidate that never answers.
func TestProbeThatHangs(t *testing.T) {
	var lines []string
	u := New(filepath.Join(t.TempDir(), "start_server"), func() *State { return &State{} }, func(line string) { lines = append(lines, line) })
	if err := os.WriteFile(u.Executable, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := u.startProbe(); err != nil {
		t.Fatal(err)
	}
	p := u.probe
	if wait := u.RunPending(); wait <= 0 || wait > probeTimeout {
		t.Errorf("RunPending = %v", wait)
	}
	p.deadline = time.Now()
	u.RunPending()
	for end := time.Now().Add(20 * time.Second); p.pid != 0; {
		if pid, status, ok := process.Reap(); ok && !u.OnExit(pid, status) {
			t.Errorf("OnExit does not handle process %d", pid)
		}
		if time.Now().After(end) {
			t.Fatal("the candidate was not killed")
		}
		time.Sleep(time.Millisecond)
	}
	become := func(int) error { t.Error("the candidate is executed"); return nil }
	if !u.Finish(become) || u.Finish(become) || u.RunPending() != deadline.Never {
		t.Error("the upgrade is not over")
	}
	if len(lines) != 1 || !strings.Contains(lines[0], "does not answer within 10 secs") {
		t.Errorf("the log: %q", lines)
	}
}
