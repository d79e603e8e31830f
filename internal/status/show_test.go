package status

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// superdaemon returns a Report with workers.
func superdaemon(phase string, workers ...WorkerReport) Report {
	return Report{
		Superdaemon: Superdaemon{PID: 4711, Version: "1.0.0", Started: ago(75 * time.Hour), Phase: phase, Options: Options{Interval: 1}},
		Workers:     workers,
	}
}

func worker(generation int, state string, since time.Duration) WorkerReport {
	return WorkerReport{PID: 5000 + generation, Generation: generation, State: state, Since: ago(since)}
}

func TestText(t *testing.T) {
	t.Parallel()
	took := 2.25
	for _, test := range []struct {
		name    string
		report  Report
		change  func(*Report)
		want    string
		serving string // the error of NotServing
	}{
		{"not started", superdaemon("starting"), nil, `
start_server 1.0.0 (pid 4711), up 3 days: starting
`, "no worker serves"},
		{"starting", superdaemon("starting", worker(1, "starting", 0)), nil, `
start_server 1.0.0 (pid 4711), up 3 days: starting

GENERATION  PID   STATE     SINCE
1           5001  starting  0 s

Waiting for worker 5001 to run for 1 s (--interval).
`, "no worker serves: worker 5001 is starting"},
		{"loading", superdaemon("starting", worker(1, "starting", 12*time.Second)), func(r *Report) {
			r.Superdaemon.Options.ReadyTimeout = 300
			r.Workers[0].Status = "loading the model"
		}, `
start_server 1.0.0 (pid 4711), up 3 days: starting

GENERATION  PID   STATE     SINCE  STATUS
1           5001  starting  12 s   loading the model

Waiting for worker 5001 to send READY=1: 12 s so far, at most 5 min
  (--ready-timeout).
`, "no worker serves: worker 5001 is starting"},
		{"loading longer", superdaemon("starting", worker(1, "serving", time.Hour), worker(2, "starting", 40*time.Second)), func(r *Report) {
			r.Superdaemon.Options.ReadyTimeout = 30
		}, `
start_server 1.0.0 (pid 4711), up 3 days: serving, starting a new worker

GENERATION  PID   STATE     SINCE
1           5001  serving   60 min
2           5002  starting  40 s

Waiting for worker 5002 to send READY=1: 40 s so far, it has asked for more
  time.
`, ""},
		{"not accepting", superdaemon("starting", worker(1, "starting", 3*time.Second)), func(r *Report) {
			r.Superdaemon.Options.AcceptTimeout = 30
			r.Workers[0].Missing = []string{"8080", "8443"}
		}, `
start_server 1.0.0 (pid 4711), up 3 days: starting

GENERATION  PID   STATE     SINCE
1           5001  starting  3 s

Waiting for worker 5001 to accept connections on 8080, 8443: 3 s so far, at most
  30 s (--accept-timeout).
`, "no worker serves: worker 5001 is starting"},
		{"serving", superdaemon("running", worker(7, "serving", 3*time.Minute)), func(r *Report) {
			r.Workers[0].Status = "12 connections \x1b[2J" + strings.Repeat("x", 80)
			r.LastRestart = &Restart{Result: "succeeded", Attempts: 1, Duration: &took, Ended: ago(3 * time.Minute)}
		}, `
start_server 1.0.0 (pid 4711), up 3 days: serving

GENERATION  PID   STATE    SINCE  STATUS
7           5007  serving  3 min  12 connections [2Jxxxxxxxxxxxxxxxxxxxxxxxxx...

Last restart: succeeded 3 min ago, after 1 attempt, in 2.2 s.
`, ""},
		{"restart under way", superdaemon("starting", worker(1, "serving", 2*time.Hour), worker(2, "starting", 0)), func(r *Report) {
			r.LastRestart = &Restart{Result: "in progress", Attempts: 1}
		}, `
start_server 1.0.0 (pid 4711), up 3 days: serving, restarting

GENERATION  PID   STATE     SINCE
1           5001  serving   2 h
2           5002  starting  0 s

Waiting for worker 5002 to run for 1 s (--interval).
Restart under way: 1 attempt so far.
`, ""},
		{"delaying", superdaemon("delaying", worker(1, "serving", 2*time.Hour), worker(2, "serving", 0)), func(r *Report) {
			r.LastRestart = &Restart{Result: "in progress", Attempts: 1}
		}, `
start_server 1.0.0 (pid 4711), up 3 days: serving, restarting

GENERATION  PID   STATE    SINCE
1           5001  serving  2 h
2           5002  serving  0 s

Old workers are told to stop when --kill-old-delay is over.
Restart under way: 1 attempt so far.
`, ""},
		{"attempts of a restart fail", superdaemon("starting", worker(1, "serving", 2*time.Hour)), func(r *Report) {
			r.FailedAttempts = &FailedAttempts{Count: 3, Reason: "exit status 3"}
			r.LastRestart = &Restart{Result: "in progress", Attempts: 3, Reason: "exit status 3"}
		}, `
start_server 1.0.0 (pid 4711), up 3 days: serving, but new workers fail to start

GENERATION  PID   STATE    SINCE
1           5001  serving  2 h

Waiting to try again: attempts are at least 1 s apart (--interval).
The last 3 attempts to start a worker have failed: exit status 3.
  (what they print is in the log: the standard error of start_server)
Restart under way: 3 attempts so far.
`, ""},
		{"nothing starts", superdaemon("starting"), func(r *Report) {
			r.FailedAttempts = &FailedAttempts{Count: 1, Reason: "killed by SEGV"}
			r.Superdaemon.Options.LogFile = "/var/log/app.log"
		}, `
start_server 1.0.0 (pid 4711), up 3 days: not serving, workers fail to start
Waiting to try again: attempts are at least 1 s apart (--interval).
The last attempt to start a worker has failed: killed by SEGV.
  (what they print is in the log: /var/log/app.log)
`, "no worker serves: the last attempt to start a worker has failed: killed by SEGV"},
		{"given up", superdaemon("running", worker(1, "serving", 26*time.Hour)), func(r *Report) {
			r.LastRestart = &Restart{Result: "given up", Attempts: 2, Reason: "not ready in 5 secs", Duration: &took, Ended: ago(100 * time.Minute)}
		}, `
start_server 1.0.0 (pid 4711), up 3 days: serving, last restart given up

GENERATION  PID   STATE    SINCE
1           5001  serving  26 h

Last restart: given up 1 h ago, after 2 attempts, in 2.2 s: not ready in 5 secs.
  (to try again: kill -HUP 4711)
`, ""},
		{"an old one lingers", superdaemon("running", worker(1, "stopping", 10*time.Second), worker(2, "serving", 10*time.Second)), nil, `
start_server 1.0.0 (pid 4711), up 3 days: serving

GENERATION  PID   STATE     SINCE
1           5001  stopping  10 s
2           5002  serving   10 s

Waiting for old worker 5001 to finish.
  (to end it now: kill -KILL 5001)
`, ""},
		{"old ones linger", superdaemon("running", worker(1, "stopping", 10*time.Second), worker(2, "stopping", 10*time.Second), worker(3, "serving", 10*time.Second)), func(r *Report) {
			r.Superdaemon.Options.KillTimeout = 60
		}, `
start_server 1.0.0 (pid 4711), up 3 days: serving

GENERATION  PID   STATE     SINCE
1           5001  stopping  10 s
2           5002  stopping  10 s
3           5003  serving   10 s

Waiting for 2 old workers to finish, which takes at most 60 s (--kill-timeout).
  (to end one now: kill -KILL PID)
`, ""},
		{"stop first", superdaemon("starting", worker(1, "stopping", 10*time.Second)), nil, `
start_server 1.0.0 (pid 4711), up 3 days: starting

GENERATION  PID   STATE     SINCE
1           5001  stopping  10 s

The next worker is started when the old ones have finished (--stop-first).
Waiting for old worker 5001 to finish.
  (to end it now: kill -KILL 5001)
`, "no worker serves"},
		{"stop delayed", superdaemon("stopping", worker(1, "serving", time.Hour)), nil, `
start_server 1.0.0 (pid 4711), up 3 days: stopping, still serving

GENERATION  PID   STATE    SINCE
1           5001  serving  60 min

The workers are told to stop when --stop-delay is over.
  (to stop them now: kill -TERM 4711)
`, ""},
		{"stopping", superdaemon("stopping", worker(1, "stopping", 2*time.Second)), nil, `
start_server 1.0.0 (pid 4711), up 3 days: stopping

GENERATION  PID   STATE     SINCE
1           5001  stopping  2 s

Waiting for worker 5001 to finish.
  (to end it now: kill -KILL 5001)
`, "no worker serves: start_server is stopping"},
		{"taken over", superdaemon("starting", worker(1, "serving", 0), worker(2, "starting", 0)), func(r *Report) {
			r.Workers[0].Adopted, r.Workers[0].Since = true, time.Time{}
		}, `
start_server 1.0.0 (pid 4711), up 3 days: serving, starting a new worker

GENERATION  PID   STATE                 SINCE
1           5001  serving (taken over)
2           5002  starting              0 s

Waiting for worker 5002 to run for 1 s (--interval).
`, ""},
		{"several workers", superdaemon("running", worker(2, "serving", time.Hour), worker(2, "serving", time.Minute)), func(r *Report) {
			r.Workers[0].Number, r.Workers[1].Number, r.Workers[1].PID = 1, 2, 5102
		}, `
start_server 1.0.0 (pid 4711), up 3 days: serving

GENERATION  WORKER  PID   STATE    SINCE
2           1       5002  serving  60 min
2           2       5102  serving  60 s

`, ""},
		{"of Perl", Report{Superdaemon: Superdaemon{PID: 4711}, Workers: []WorkerReport{worker(1, "old", time.Hour), worker(2, "serving", time.Second)}}, nil, `
start_server (pid 4711): serving

GENERATION  PID   STATE    SINCE
1           5001  old      60 min
2           5002  serving  1 s

`, ""},
	} {
		if test.change != nil {
			test.change(&test.report)
		}
		got := test.report.Text(now, false)
		if diff := cmp.Diff(test.want, "\n"+got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		for line := range strings.Lines(got) {
			if len(line) > 81 {
				t.Errorf("%s: %d columns: %s", test.name, len(line), line)
			}
		}
		if err := test.report.NotServing(); (err == nil) != (test.serving == "") || err != nil && err.Error() != test.serving {
			t.Errorf("%s: NotServing = %v, want %q", test.name, err, test.serving)
		}
		coloured := test.report.Text(now, true)
		if plain := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(coloured); plain != got || coloured == got {
			t.Errorf("%s: coloured: %q", test.name, coloured)
		}
	}
}

func TestLeftText(t *testing.T) {
	t.Parallel()
	left := []WorkerReport{worker(3, "left", time.Hour), worker(4, "left", time.Second)}
	for _, test := range []struct {
		left []WorkerReport
		want string
	}{
		{nil, `
start_server is not running; it was killed.
The status file names no worker that is left.
`},
		{left, `
start_server is not running; it was killed.

GENERATION  PID   STATE  SINCE
3           5003  left   60 min
4           5004  left   1 s

2 workers that it left may still serve.
  (to take over: start it again with the same command)
  (to stop: start_server --stop --pid-file='/run/my app/pid'
   --status-file=/run/app.status)
`},
	} {
		got := LeftText(test.left, "/run/my app/pid", "/run/app.status", now, false)
		if diff := cmp.Diff(test.want, "\n"+got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{
		0: "0 s", 0.25: "0.2 s", 99: "99 s", 100: "1 min", 5999: "99 min", 6000: "1 h", 172799: "47 h", 172800: "2 days",
	} {
		if got := seconds(n); got != want {
			t.Errorf("%v seconds: %q, want %q", n, got, want)
		}
	}
}
