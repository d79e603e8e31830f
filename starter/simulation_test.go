package starter

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/status"
)

// enoughSchedules is a number of schedules that is enough to have every event in every phase.
const enoughSchedules = 100_000

var schedules = flag.Int("schedules", enoughSchedules, "how many random schedules the simulation runs")

// TestSimulation runs random schedules of signals, deaths, readiness and time, and checks the
// invariants after every event.
func TestSimulation(t *testing.T) {
	const shards = 4
	total := newCoverage()
	t.Cleanup(func() { total.check(t) })
	for shard := range uint64(shards) {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			seen := newCoverage()
			defer total.add(seen)
			for seed := shard; seed < uint64(*schedules); seed += shards {
				if err := simulate(seed, func(s *supervisor) decider { return observed{s, seen} }); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		})
	}
}

// TestSimulationCatches checks that the simulation finds bugs: each of these is one that a
// supervisor of this kind could have.
func TestSimulationCatches(t *testing.T) {
	for name, bug := range map[string]func(*supervisor) decider{
		"kills the old before the new has started": func(s *supervisor) decider { return hasty{s} },
		"forgets a HUP during a start":             func(s *supervisor) decider { return forgetful{s} },
		"signals old workers again at each HUP":    func(s *supervisor) decider { return nagging{s} },
		"misses deaths":                            func(s *supervisor) decider { return &deaf{supervisor: s} },
		"starts beside an old worker":              func(s *supervisor) decider { return impatient{s} },
		"stops before the delay is over":           func(s *supervisor) decider { return abrupt{s} },
		"restarts during the delay of a stop":      func(s *supervisor) decider { return oblivious{s} },
		"never gives up":                           func(s *supervisor) decider { return stubborn{s} },
		"ends when no worker serves":               func(s *supervisor) decider { return resigned{s} },
		"waits for ever for what it cannot see":    func(s *supervisor) decider { return blind{s} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2000) {
				if err := simulate(seed, bug); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("not caught in 2000 schedules")
		})
	}
}

// TestSimulationOfUpgrades replaces the supervisor after every event: every state crosses an
// upgrade, and the invariants hold.
func TestSimulationOfUpgrades(t *testing.T) {
	for seed := range uint64(300) {
		if err := simulate(seed, func(s *supervisor) decider { return upgraded{s} }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// decider is the supervisor in the simulation, or one with a bug.
type decider interface {
	beginStep(time.Duration, time.Time, settings)
	onSignal(syscall.Signal)
	onExit(pid, status int)
	onReady(pid int)
	onMissing(pid int, keys []string)
	onUnseen(pid int, why string)
	onExtend(pid int, by time.Duration)
	onSocketReplaced()
	onTimer()
}

type hasty struct{ *supervisor }

func (h hasty) onSignal(sig syscall.Signal) {
	if sig == syscall.SIGHUP && h.Phase == running {
		h.out.signal(h.Current.PID, syscall.SIGTERM)
	}
	h.supervisor.onSignal(sig)
}

type forgetful struct{ *supervisor }

func (f forgetful) onSignal(sig syscall.Signal) {
	if sig != syscall.SIGHUP || f.Phase == running {
		f.supervisor.onSignal(sig)
	}
}

type nagging struct{ *supervisor }

func (n nagging) onTimer() {
	for _, w := range n.Old {
		if n.Phase == delaying {
			w.StopSent = false
		}
	}
	n.supervisor.onTimer()
}

type deaf struct {
	*supervisor
	deaths int
}

func (d *deaf) onExit(pid, status int) {
	if d.deaths++; d.deaths%7 != 0 {
		d.supervisor.onExit(pid, status)
	}
}

type stubborn struct{ *supervisor }

func (s stubborn) onTimer() {
	s.Restart.Attempts = 0
	s.supervisor.onTimer()
}

type resigned struct{ *supervisor }

func (r resigned) onTimer() {
	r.supervisor.onTimer()
	if r.Phase < stopping && r.Restart.Result == givenUp && r.serving() == nil {
		r.stopAll(syscall.SIGTERM)
	}
}

// blind forgets that the interval decides when it cannot see whether a worker accepts connections.
type blind struct{ *supervisor }

func (b blind) onUnseen(pid int, why string) {
	b.supervisor.onUnseen(pid, why)
	if b.isStarting(pid) {
		b.Candidate.Unseen = ""
	}
}

// impatient does not wait for the end of old workers.
type impatient struct{ *supervisor }

func (i impatient) onTimer() {
	i.rules.stopFirst = i.rules.stopFirst && !i.waitingForOld()
	i.supervisor.onTimer()
}

// abrupt stops old workers at the first signal to stop.
type abrupt struct{ *supervisor }

func (a abrupt) onSignal(sig syscall.Signal) {
	a.supervisor.onSignal(sig)
	if a.StopAt > 0 && a.Phase == running {
		a.out.signal(a.Current.PID, sig)
	}
}

// oblivious forgets the delayed stop at a HUP.
type oblivious struct{ *supervisor }

func (o oblivious) onSignal(sig syscall.Signal) {
	if sig == syscall.SIGHUP {
		o.StopAt = 0
	}
	o.supervisor.onSignal(sig)
}

// upgraded is a supervisor that is replaced after every event.
type upgraded struct{ *supervisor }

func (s upgraded) onTimer() {
	s.supervisor.onTimer()
	if s.Phase >= stopping {
		return
	}
	text, err := json.Marshal(s.state)
	if err != nil {
		panic(err)
	}
	s.state = state{}
	if err := errors.Join(json.Unmarshal(text, &s.state), s.check(s.now)); err != nil {
		panic(err)
	}
}

// world is a system of fake processes, which live and die according to the schedule.
type world struct {
	random   *rand.Rand
	sup      *supervisor
	children map[int]*child
	dead     []int        // not reaped yet
	adopted  map[int]bool // left by a superdaemon that was killed
	pids     int
	status   []status.Worker
	rules    rules
	stopping bool
	stopBy   time.Duration // when all workers are signalled, once stopping
	lastHUP  bool          // no worker was started since the last HUP
	failed   int           // attempts since a worker has started, a HUP was acted on or a restart was given up
	lines    []string
	unseen   string // pid of the latest worker that could not be seen
	hints    int
	err      error
}

type child struct {
	generation int
	started    bool // the status file has named it
	signalled  int  // how often it was signalled to stop, the final stop not counted
	finalStop  bool // it was signalled in the final stop
	stubborn   bool // it ignores signals to stop
}

func simulate(seed uint64, make func(*supervisor) decider) error {
	r := rand.New(rand.NewPCG(seed, 0))
	w := &world{random: r, children: map[int]*child{}, adopted: map[int]bool{}, pids: 100}
	w.rules = randomRules(r)
	w.sup = newSupervisor(w.rules, w)
	d := make(w.sup)
	current := randomSettings(r)
	now := time.Duration(1)
	d.beginStep(now, time.Time{}, current)
	w.sup.startWorker()
	steps := 5 + r.IntN(30)
	for step := 0; w.err == nil && w.sup.Phase != stopped; step++ {
		now += time.Duration(r.Int64N(int64(1500 * time.Millisecond)))
		if at, ok := w.sup.nextDeadline(); ok && r.IntN(2) == 0 {
			now = max(now, at)
		}
		if r.IntN(20) == 0 {
			current = randomSettings(r)
		}
		if r.IntN(30) == 0 {
			w.restartAfterKill(r)
			d = make(w.sup)
			d.beginStep(now, time.Time{}, current)
			w.adopt()
		}
		d.beginStep(now, time.Time{}, current)
		w.reap(d)
		if step == steps {
			w.settle(d, &now, current)
		}
		w.event(d, step >= steps)
		d.onTimer()
		w.check()
		if step > steps+1000 {
			w.fail("the stop does not end")
		}
	}
	if s := w.sup; w.err == nil && !w.stopping && (s.failure == nil || s.StartedAt > 0) {
		w.fail("stopped without a signal, although a worker has served")
	}
	if w.err == nil && len(w.children) > 0 {
		w.fail("stopped, but %d children are alive", len(w.children))
	}
	if w.err != nil {
		return fmt.Errorf("%w\n%s", w.err, strings.Join(w.lines, "\n"))
	}
	return nil
}

// statusOf returns the exit status of a worker: statusUnknown for one that is not a child.
func (w *world) statusOf(pid int) int {
	if w.adopted[pid] {
		return statusUnknown
	}
	return w.random.IntN(2) * 256
}

// restartAfterKill kills the superdaemon and starts another one, with other options. Process 1
// reaps the dead workers.
func (w *world) restartAfterKill(r *rand.Rand) {
	w.dead, w.stopping, w.stopBy, w.lastHUP, w.failed, w.hints = nil, false, 0, false, 0, 0
	w.rules = randomRules(r)
	w.sup = newSupervisor(w.rules, w)
}

// adopt passes the workers to the new superdaemon that package orphan would find: those that hold a
// socket, and those that the status file names. A worker that was signalled to stop may have closed
// its sockets.
func (w *world) adopt() {
	var left []*worker
	for _, pid := range slices.Sorted(maps.Keys(w.children)) {
		c := w.children[pid]
		named := slices.ContainsFunc(w.status, func(s status.Worker) bool { return s.PID == pid })
		holds := c.signalled == 0 && !c.finalStop || w.random.IntN(2) == 0
		if !named && !holds {
			delete(w.children, pid) // it cannot be found
			continue
		}
		left = append(left, &worker{PID: pid, Generation: c.generation, StopSent: c.signalled > 0 || c.finalStop})
		w.adopted[pid] = true
	}
	if len(left) == 0 {
		w.sup.startWorker()
		return
	}
	w.sup.adopt(left)
	if len(w.status) != len(left) {
		w.fail("%d workers were adopted, the status names %d", len(left), len(w.status))
	}
	for _, old := range left {
		if old.Generation > w.sup.Generation {
			w.fail("generation %d is older than one that was adopted", w.sup.Generation)
		}
	}
	w.sup.startWorker()
}

func randomRules(r *rand.Rand) rules {
	return rules{
		interval:     []time.Duration{0, time.Second, 3 * time.Second}[r.IntN(3)],
		readiness:    []readiness{byInterval, byNotice, byAccepting}[r.IntN(3)],
		startTimeout: 2 * time.Second,
		killTimeout:  []time.Duration{0, 2 * time.Second}[r.IntN(2)],
		stopFirst:    r.IntN(3) == 0,
		stopDelay:    []time.Duration{0, 3 * time.Second}[r.IntN(2)],
		maxAttempts:  []int{0, 1, 2, 3}[r.IntN(4)],
		signalOnHUP:  []stopSignal{sigTERM, {syscall.SIGUSR1, "USR1"}}[r.IntN(2)],
		signalOnTERM: sigTERM,
		hints:        hints{sockets: r.IntN(2) == 0},
	}
}

func randomSettings(r *rand.Rand) settings {
	return settings{
		autoRestart:         r.IntN(4) == 0,
		autoRestartInterval: time.Duration(1+r.IntN(10)) * time.Second,
		killOldDelay:        []time.Duration{0, time.Second, 4 * time.Second}[r.IntN(3)],
	}
}

// event generates a random event.
func (w *world) event(d decider, end bool) {
	if end && (!w.stopping || w.random.IntN(4) == 0) {
		w.stop(d)
		return
	}
	pids := slices.Sorted(maps.Keys(w.children))
	switch w.random.IntN(8) {
	case 0, 1:
		w.lastHUP = !w.stopping
		d.onSignal(syscall.SIGHUP)
	case 2:
		d.onSignal([]syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2}[w.random.IntN(2)])
	case 3, 4:
		if len(pids) > 0 {
			w.kill(pids[w.random.IntN(len(pids))])
		}
	case 5:
		if w.random.IntN(2) == 0 {
			d.onExit(99, 0) // an orphan
		} else {
			d.onSocketReplaced()
		}
	case 6:
		if len(pids) == 0 {
			break
		}
		w.report(d, pids[w.random.IntN(len(pids))])
	default: // only time passes
		if c := w.sup.Candidate; c != nil && w.random.IntN(2) == 0 {
			d.onReady(c.PID)
		}
	}
	if w.ending() { // finally even stubborn workers end
		for pid, c := range w.children {
			c.stubborn = c.stubborn && w.sup.rules.killTimeout > 0
			if c.finalStop && !c.stubborn {
				w.kill(pid)
			}
		}
	}
}

// report generates what a worker sends, or what is seen of it.
func (w *world) report(d decider, pid int) {
	switch n := w.random.IntN(6); {
	case n < 3:
		d.onReady(pid)
	case n == 3:
		d.onExtend(pid, time.Second)
	case n == 4:
		d.onMissing(pid, []string{"8080"})
	case w.rules.readiness == byAccepting:
		d.onUnseen(pid, "not permitted")
	}
}

// stop sends a signal to stop: the first one may be acted on later, the second one not.
func (w *world) stop(d decider) {
	w.stopBy = w.sup.now
	if !w.stopping && (w.sup.StartedAt > 0 || len(w.sup.Old) > 0) {
		w.stopBy += w.rules.stopDelay
	}
	w.stopping, w.lastHUP = true, false
	d.onSignal([]syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT}[w.random.IntN(3)])
}

// ending reports whether the final stop has begun, by a signal or because the first start was given
// up.
func (w *world) ending() bool {
	return w.stopping && w.sup.now >= w.stopBy || w.sup.Phase == stopping
}

// settle generates no further events, so that a worker must serve in the end.
func (w *world) settle(d decider, now *time.Duration, current settings) {
	current.autoRestart = false
	for range 500 {
		if w.sup.Phase == running || w.sup.Phase >= stopping || w.err != nil {
			return
		}
		for pid, c := range w.children {
			if c.signalled > 0 {
				w.kill(pid)
			}
		}
		if at, ok := w.sup.nextDeadline(); ok {
			*now = max(*now, at)
		}
		d.beginStep(*now, time.Time{}, current)
		w.reap(d)
		if c := w.sup.Candidate; c != nil {
			d.onReady(c.PID)
		}
		d.onTimer()
		w.check()
	}
	w.fail("without further events no worker serves")
}

// reap reports the dead processes.
func (w *world) reap(d decider) {
	for len(w.dead) > 0 {
		pid := w.dead[0]
		w.dead = w.dead[1:]
		d.onExit(pid, w.statusOf(pid))
	}
}

// kill makes a process a zombie.
func (w *world) kill(pid int) {
	if w.children[pid] != nil {
		delete(w.children, pid)
		w.dead = append(w.dead, pid)
	}
}

// check checks the invariants.
func (w *world) check() {
	for pid := range w.children {
		known := slices.ContainsFunc(w.sup.workers(), func(worker *worker) bool { return worker.PID == pid })
		if !known && !slices.Contains(w.dead, pid) {
			w.fail("child %d is not accounted for", pid)
		}
	}
	if s := w.sup; s.Phase == running && s.Current == nil {
		w.fail("running without a current worker")
	}
	if s := w.sup; s.Phase == running && s.SocketReplaced && s.StopAt == 0 {
		w.fail("no worker was started for the socket that was replaced")
	}
	if c := w.sup.Current; c != nil && (c.Missing != nil || !c.Started) {
		w.fail("%d serves and does not accept connections on %v", c.PID, c.Missing)
	}
	if w.sup.Phase == running && w.lastHUP {
		w.fail("a HUP was forgotten")
	}
	if at, ok := w.sup.nextDeadline(); ok && at <= w.sup.now && w.sup.Phase != stopped {
		w.fail("something due was not done")
	}
	waiting := w.sup.waitingForOld()
	if _, ok := w.sup.nextDeadline(); !ok && !waiting && (w.sup.Phase == starting || w.sup.Phase == delaying) {
		w.fail("the phase will never end")
	}
	if waiting && len(w.sup.notYetStopped()) > 0 {
		w.fail("the next worker waits for one that was not signalled to stop")
	}
	for _, s := range w.status {
		if c := w.children[s.PID]; c != nil && c.generation != s.Generation {
			w.fail("the status is wrong about %d", s.PID)
		}
	}
}

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

func (w *world) start(generation int) (int, error) {
	if w.ending() {
		w.fail("a worker is started while stopping")
	}
	if w.rules.stopFirst && len(w.children) > 0 {
		w.fail("two workers at once")
	}
	if limit := w.sup.rules.maxAttempts; limit > 0 && w.failed >= limit && w.sup.Restart.Result == inProgress && (w.sup.serving() != nil || w.sup.StartedAt == 0) {
		w.fail("another attempt after %d have failed", w.failed)
	}
	w.failed++
	if w.random.IntN(10) == 0 {
		w.lastHUP = w.lastHUP && w.sup.rules.maxAttempts == 0 // an attempt was made
		return 0, errors.New("fork failed")
	}
	w.lastHUP = false
	w.pids++
	w.children[w.pids] = &child{generation: generation, stubborn: w.random.IntN(4) == 0}
	return w.pids, nil
}

func (w *world) signal(pid int, sig syscall.Signal) {
	c := w.children[pid]
	if c == nil {
		if !slices.Contains(w.dead, pid) {
			w.fail("%v is sent to %d, which is not a child", sig, pid)
		}
		return
	}
	switch {
	case sig == syscall.SIGKILL:
		if c.signalled == 0 && !c.finalStop {
			w.fail("%d is killed without a signal to stop", pid)
		}
		w.kill(pid)
	case w.ending():
		c.finalStop = true
		if !c.stubborn && w.random.IntN(3) > 0 {
			w.kill(pid)
		}
	default:
		w.stopOne(pid, c)
	}
}

// stopOne checks a signal to stop that is not part of the final stop.
func (w *world) stopOne(pid int, c *child) {
	c.signalled++
	if c.signalled > 1 {
		w.fail("%d is signalled to stop twice", pid)
	}
	newer := slices.ContainsFunc(w.status, func(s status.Worker) bool {
		return s.Generation > c.generation
	})
	if c.started && !newer && !w.rules.stopFirst {
		w.fail("%d is signalled to stop before a newer one has started", pid)
	}
	if c.started && w.stopping && w.rules.stopFirst {
		w.fail("%d is signalled to stop before the delay is over", pid)
	}
	if !c.stubborn && w.random.IntN(2) == 0 {
		w.kill(pid)
	}
}

func (w *world) executed(int) bool { return w.random.IntN(8) > 0 }

func (w *world) forget(int) {}

func (w *world) writeStatus(workers []status.Worker) {
	w.status = workers
	for _, s := range workers {
		if c := w.children[s.PID]; c != nil {
			c.started = true
		}
	}
}

func (w *world) reopenLog() {}

func (w *world) emit(Event) {}

func (w *world) logLine(line string) {
	w.lines = append(w.lines, line)
	if w.unseen != "" && strings.HasPrefix(line, "new worker "+w.unseen+" does not accept") {
		w.fail("%s cannot be seen, and is stopped because it does not accept connections", w.unseen)
	}
	if pid, ok := strings.CutPrefix(line, "cannot see whether new worker "); ok {
		w.unseen, _, _ = strings.Cut(pid, " ")
	}
	for _, verdict := range []string{"received HUP", "autorestart", msgSocketReplaced, "new worker is now running", "giving up the restart"} {
		if strings.HasPrefix(line, verdict) {
			w.failed = 0
		}
	}
	if !strings.HasPrefix(line, "hint: ") {
		return
	}
	if w.hints++; w.hints > 1 || w.sup.StartedAt > 0 {
		w.fail("a second hint, or one after a worker has started")
	}
}

func (w *world) notify(state string) {
	if strings.HasPrefix(state, "READY=1") && w.sup.serving() == nil {
		w.fail("READY=1 while no worker serves")
	}
}

func (w *world) startUpgrade() {}
