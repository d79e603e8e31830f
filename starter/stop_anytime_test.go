package starter

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/supervisor"
	"github.com/start-server/start-server/internal/workers"
)

// TestStopAnytime sends TERM at every point of every phase: during the first start, a failing one,
// one that is not ready, the delay, the wait for old workers, an auto restart. The superdaemon ends
// in time, and all workers end before.
func TestStopAnytime(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]supervisor.Rules{
		"interval": {Interval: time.Second},
		"ready":    {Interval: time.Second, Readiness: supervisor.ByNotice, StartTimeout: 2 * time.Second},
		"at once":  {},
		"kill":     {Interval: time.Second, Readiness: supervisor.ByNotice, StartTimeout: time.Second, KillTimeout: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for tenth := range 130 { // the script below takes 12 seconds
				stopAt(t, r, float64(tenth)/10+0.05)
				stopAt(t, r, float64(tenth)/10) // at the same time as something else
			}
		})
	}
}

func stopAt(t *testing.T, r supervisor.Rules, at float64) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, r)
		p.settings = supervisor.Settings{KillOldDelay: 2 * time.Second, AutoRestart: true, AutoRestartInterval: 6 * time.Second}
		p.slow = 1500 * time.Millisecond
		p.lives[2], p.lives[5] = 0, time.Second
		forkFails := false
		p.starting = func() error {
			if forkFails = !forkFails && p.loop.Generation == 3; forkFails {
				return syscall.EAGAIN
			}
			generation := p.loop.Generation
			p.at(0.3, func() {
				select {
				case p.loop.notices <- workers.Notice{PID: generation, Message: sdnotify.Message{Ready: true}}:
				case <-time.After(time.Minute): // the loop has ended
				}
			})
			return nil
		}
		for _, second := range []float64{3, 5} {
			p.at(second, func() {
				select {
				case p.loop.signals.HUP <- syscall.SIGHUP:
				default: // one is pending, or the loop has ended
				}
			})
		}
		p.at(at, p.term)
		p.loop.run(t.Context())
		if took := time.Since(p.began).Seconds() - at; took > 3 {
			t.Errorf("TERM at %g: it took %g secs", at, took)
		}
		p.checkEnd(at)
		time.Sleep(2 * time.Minute) // virtual, until all timers have fired
	})
}

// TestStopBeforeTheStart checks that no worker is started after a signal to stop.
func TestStopBeforeTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second})
		p.term()
		p.run(`
		0 received TERM, sending TERM to all workers:
		0 exiting`)
	})
}

// TestWhileStopping checks that a stop is affected only by deaths and by the time for KILL.
func TestWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, Readiness: supervisor.ByNotice, StartTimeout: time.Second, KillTimeout: 2 * time.Second})
		p.slow = time.Minute
		p.at(0.5, p.sends(1, sdnotify.Message{Ready: true}))
		p.at(2, p.term)
		p.at(2.5, p.term)
		p.at(2.5, p.hup)
		p.at(2.5, func() { p.loop.signals.Upgrade <- syscall.SIGUSR2 })
		p.at(2.5, func() { p.loop.signals.Stray <- syscall.SIGALRM })
		p.at(3, p.sends(1, sdnotify.Message{Ready: true}))
		p.at(3.5, p.sends(1, sdnotify.Message{Extend: 3 * time.Second})) // until 6.5
		p.run(`
		0 starting new worker 1
		2 received TERM, sending TERM to all workers:1
		2 (1 gets terminated)
		6.5 worker 1 is still there 2 secs after it was told to stop, sending KILL
		6.5 (1 gets killed)
		6.5 worker 1 died, status:9
		6.5 exiting`)
	})
}

// TestStatusText checks that the STATUS= of a worker is part of the description, without characters
// that could disturb a terminal.
func TestStatusText(t *testing.T) {
	t.Parallel()
	p := newFakeSystem(t, supervisor.Rules{})
	s := p.loop.Supervisor
	s.BeginStep(time.Second, time.Time{})
	s.StartWorker()
	s.OnStatus(1, "40 \x1b[31müsers\r\u202e\x00")
	s.OnStatus(2, "not a worker")
	if got, want := p.notified, "STATUS=generation 1 (pid 1) is serving: 40 [31müsers"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// checkEnd checks the log of a stop: every worker that was started has died, and none was started
// after the signal.
func (p *fakeSystem) checkEnd(at float64) {
	p.t.Helper()
	log := strings.Join(p.lines, "\n")
	_, after, stopped := strings.Cut(log, " received TERM, ")
	if !stopped || !strings.HasSuffix(log, " exiting") || strings.Contains(after, "starting new worker") {
		p.t.Errorf("TERM at %g: wrong end:\n%s", at, log)
	}
	for line := range strings.Lines(log) {
		if _, pid, ok := strings.Cut(strings.TrimSpace(line), "starting new worker "); ok && !reportsDeath(log, pid) {
			p.t.Errorf("TERM at %g: no line about the death of worker %s:\n%s", at, pid, log)
		}
	}
}

func reportsDeath(log, pid string) bool {
	for _, format := range []string{
		" worker %s died, ", " old worker %s died, ", " worker %s died unexpectedly ", " new worker %s seems to have failed ",
	} {
		if strings.Contains(log, fmt.Sprintf(format, pid)) {
			return true
		}
	}
	return false
}

// TestClock checks that every time that is kept has a reading of the monotonic clock, so that
// setting the system's clock has no effect. A time without that reading prints without " m=". The
// functions in wallClock lose it.
func TestClock(t *testing.T) {
	t.Parallel()
	if epoch := newLoop(nil, nil, signals.Channels{}).epoch; !strings.Contains(epoch.String(), " m=") {
		t.Errorf("the supervisor's epoch has no monotonic clock reading: %s", epoch)
	}
	files, _ := filepath.Glob("*.go")
	for _, part := range []string{"supervisor", "output", "manager", "workers", "listening", "upgrade"} {
		of, _ := filepath.Glob("../internal/" + part + "/*.go")
		files = append(files, of...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if found := wallClock.Find(text); found != nil && !strings.HasSuffix(file, "_test.go") {
			t.Errorf("%s uses %s, which loses the monotonic clock reading", file, found)
		}
	}
}

var wallClock = regexp.MustCompile(`\.(Unix\w*|UTC|Local|Round|AddDate|Format|MarshalJSON)\(|time\.(Date|Parse|Unix)|CLOCK_REALTIME`)
