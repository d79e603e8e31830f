package supervisor

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

	"github.com/start-server/start-server/internal/deadline"
	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/waitstatus"
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
				if err := simulate(seed, func(s *Supervisor) decider { return observed{s, seen} }); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		})
	}
}

// TestSimulationCatches checks that the simulation finds bugs: each of these is one that a
// supervisor of this kind could have.
func TestSimulationCatches(t *testing.T) {
	for name, bug := range map[string]func(*Supervisor) decider{
		"kills the old before the new has started": func(s *Supervisor) decider { return hasty{s} },
		"forgets a HUP during a start":             func(s *Supervisor) decider { return forgetful{s} },
		"signals old workers again at each HUP":    func(s *Supervisor) decider { return nagging{s} },
		"misses deaths":                            func(s *Supervisor) decider { return &deaf{Supervisor: s} },
		"starts beside an old worker":              func(s *Supervisor) decider { return impatient{s} },
		"stops before the delay is over":           func(s *Supervisor) decider { return abrupt{s} },
		"restarts during the delay of a stop":      func(s *Supervisor) decider { return oblivious{s} },
		"never gives up":                           func(s *Supervisor) decider { return stubborn{s} },
		"ends when no worker serves":               func(s *Supervisor) decider { return resigned{s} },
		"waits forever for what it cannot see":     func(s *Supervisor) decider { return blind{s} },
		"kills a worker that has started":          func(s *Supervisor) decider { return strict{s} },
		"keeps too many old workers":               func(s *Supervisor) decider { return generous{s} },
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
		if err := simulate(seed, func(s *Supervisor) decider { return upgraded{s} }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// decider is the supervisor in the simulation, or one with a bug.
type decider interface {
	BeginStep(time.Duration, time.Time)
	OnSignal(syscall.Signal)
	OnExit(pid, status int)
	OnReady(pid int)
	OnMissing(pid int, keys []string)
	OnUnseen(pid int, why string)
	OnExtend(pid int, by time.Duration)
	OnSocketReplaced()
	OnTimer()
}

type hasty struct{ *Supervisor }

func (h hasty) OnSignal(sig syscall.Signal) {
	if sig == syscall.SIGHUP && h.Phase == Running {
		h.out.Signal(h.Current.PID, syscall.SIGTERM)
	}
	h.Supervisor.OnSignal(sig)
}

type forgetful struct{ *Supervisor }

func (f forgetful) OnSignal(sig syscall.Signal) {
	if sig != syscall.SIGHUP || f.Phase == Running {
		f.Supervisor.OnSignal(sig)
	}
}

type nagging struct{ *Supervisor }

func (n nagging) OnTimer() {
	for _, w := range n.Old {
		if n.Phase == Delaying {
			w.StopSent = false
		}
	}
	n.Supervisor.OnTimer()
}

type deaf struct {
	*Supervisor
	deaths int
}

func (d *deaf) OnExit(pid, status int) {
	if d.deaths++; d.deaths%7 != 0 {
		d.Supervisor.OnExit(pid, status)
	}
}

type stubborn struct{ *Supervisor }

func (s stubborn) OnTimer() {
	s.Restart.Attempts = 0
	s.Supervisor.OnTimer()
}

type resigned struct{ *Supervisor }

func (r resigned) OnTimer() {
	r.Supervisor.OnTimer()
	if r.Phase < Stopping && r.Restart.Result == GivenUp && r.Serving() == nil {
		r.stopAll(syscall.SIGTERM)
	}
}

// blind forgets that the interval decides when it cannot see whether a worker accepts connections.
type blind struct{ *Supervisor }

func (b blind) OnUnseen(pid int, why string) {
	b.Supervisor.OnUnseen(pid, why)
	if b.isStarting(pid) {
		b.Candidate.Unseen = ""
	}
}

// strict gives every worker that was told to stop only as long as one that has not started.
type strict struct{ *Supervisor }

func (s strict) OnTimer() {
	s.Supervisor.OnTimer()
	for _, w := range s.Old {
		if w.StopSent && w.KillAt == 0 {
			w.KillAt = s.now + s.rules.StartTimeout
		}
	}
}

// generous forgets how many old workers may be left.
type generous struct{ *Supervisor }

func (g generous) OnTimer() {
	g.rules.MaxOldWorkers = nil
	g.Supervisor.OnTimer()
}

// impatient does not wait for the end of old workers.
type impatient struct{ *Supervisor }

func (i impatient) OnTimer() {
	i.rules.StopFirst = i.rules.StopFirst && !i.waitingForOld()
	i.Supervisor.OnTimer()
}

// abrupt stops old workers at the first signal to stop.
type abrupt struct{ *Supervisor }

func (a abrupt) OnSignal(sig syscall.Signal) {
	a.Supervisor.OnSignal(sig)
	if a.StopAt > 0 && a.Phase == Running {
		a.out.Signal(a.Current.PID, sig)
	}
}

// oblivious forgets the delayed stop at a HUP.
type oblivious struct{ *Supervisor }

func (o oblivious) OnSignal(sig syscall.Signal) {
	if sig == syscall.SIGHUP {
		o.StopAt = 0
	}
	o.Supervisor.OnSignal(sig)
}

// upgraded is a supervisor that is replaced after every event.
type upgraded struct{ *Supervisor }

func (s upgraded) OnTimer() {
	s.Supervisor.OnTimer()
	if s.Phase >= Stopping {
		return
	}
	text, err := json.Marshal(s.State)
	if err != nil {
		panic(err)
	}
	s.State = State{}
	if err := errors.Join(json.Unmarshal(text, &s.State), s.Check(s.now)); err != nil {
		panic(err)
	}
}

// world is a system of fake processes, which live and die according to the schedule.
type world struct {
	random   *rand.Rand
	sup      *Supervisor
	children map[int]*child
	dead     []int        // not reaped yet
	adopted  map[int]bool // left by a superdaemon that was killed
	pids     int
	status   []Worker
	rules    Rules
	settings Settings
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

func simulate(seed uint64, make func(*Supervisor) decider) error {
	r := rand.New(rand.NewPCG(seed, 0))
	w := &world{random: r, children: map[int]*child{}, adopted: map[int]bool{}, pids: 100}
	w.rules = randomRules(r)
	w.sup = New(w.rules, Hints{Sockets: r.IntN(2) == 0}, w)
	d := make(w.sup)
	w.settings = randomSettings(r)
	now := time.Duration(1)
	d.BeginStep(now, time.Time{})
	w.sup.StartWorker()
	steps := 5 + r.IntN(30)
	for step := 0; w.err == nil && w.sup.Phase != Stopped; step++ {
		now += time.Duration(r.Int64N(int64(1500 * time.Millisecond)))
		if at := w.sup.NextDeadline(); at != deadline.Never && r.IntN(2) == 0 {
			now = max(now, at)
		}
		if r.IntN(20) == 0 {
			w.settings = randomSettings(r)
		}
		if r.IntN(30) == 0 {
			w.restartAfterKill(r)
			d = make(w.sup)
			d.BeginStep(now, time.Time{})
			w.adopt()
		}
		d.BeginStep(now, time.Time{})
		w.reap(d)
		if step == steps {
			w.settle(d, &now)
		}
		w.event(d, step >= steps)
		d.OnTimer()
		w.check()
		if step > steps+1000 {
			w.fail("the stop does not end")
		}
	}
	if s := w.sup; w.err == nil && !w.stopping && (s.Failure == nil || s.StartedAt > 0) {
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

// statusOf returns the exit status of a worker: waitstatus.Unknown for one that is not a child.
func (w *world) statusOf(pid int) int {
	if w.adopted[pid] {
		return waitstatus.Unknown
	}
	return w.random.IntN(2) * 256
}

// restartAfterKill kills the superdaemon and starts another one, with other options. Process 1
// reaps the dead workers.
func (w *world) restartAfterKill(r *rand.Rand) {
	w.dead, w.stopping, w.stopBy, w.lastHUP, w.failed, w.hints = nil, false, 0, false, 0, 0
	w.rules = randomRules(r)
	w.sup = New(w.rules, Hints{Sockets: r.IntN(2) == 0}, w)
}

// adopt passes the workers to the new superdaemon that package orphan would find: those that hold a
// socket, and those that the status file names. A worker that was signalled to stop may have closed
// its sockets.
func (w *world) adopt() {
	var left []*Worker
	for _, pid := range slices.Sorted(maps.Keys(w.children)) {
		c := w.children[pid]
		named := slices.ContainsFunc(w.status, func(s Worker) bool { return s.PID == pid })
		holds := c.signalled == 0 && !c.finalStop || w.random.IntN(2) == 0
		if !named && !holds {
			delete(w.children, pid) // it cannot be found
			continue
		}
		left = append(left, &Worker{PID: pid, Generation: c.generation, StopSent: c.signalled > 0 || c.finalStop})
		w.adopted[pid] = true
	}
	if len(left) == 0 {
		w.sup.StartWorker()
		return
	}
	w.sup.Adopt(left)
	if len(w.status) != len(left) {
		w.fail("%d workers were adopted, the status names %d", len(left), len(w.status))
	}
	for _, old := range left {
		if old.Generation > w.sup.Generation {
			w.fail("generation %d is older than one that was adopted", w.sup.Generation)
		}
	}
	w.sup.StartWorker()
}

func randomRules(r *rand.Rand) Rules {
	two := 2
	return Rules{
		Interval:      []time.Duration{0, time.Second, 3 * time.Second}[r.IntN(3)],
		StartTimeout:  2 * time.Second,
		Readiness:     []Readiness{ByInterval, ByNotice, ByAccepting}[r.IntN(3)],
		MaxOldWorkers: []*int{nil, new(int), &two}[r.IntN(3)],
		KillTimeout:   []time.Duration{0, 2 * time.Second}[r.IntN(2)],
		StopFirst:     r.IntN(3) == 0,
		StopDelay:     []time.Duration{0, 3 * time.Second}[r.IntN(2)],
		MaxAttempts:   []int{0, 1, 2, 3}[r.IntN(4)],
		SignalOnHUP:   []StopSignal{sigTERM, {syscall.SIGUSR1, "USR1"}}[r.IntN(2)],
		SignalOnTERM:  sigTERM,
	}
}

func randomSettings(r *rand.Rand) Settings {
	return Settings{
		MayChange:           r.IntN(2) == 0,
		AutoRestart:         r.IntN(4) == 0,
		AutoRestartInterval: time.Duration(1+r.IntN(10)) * time.Second,
		KillOldDelay:        []time.Duration{0, time.Second, 4 * time.Second}[r.IntN(3)],
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
		d.OnSignal(syscall.SIGHUP)
	case 2:
		d.OnSignal([]syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2}[w.random.IntN(2)])
	case 3, 4:
		if len(pids) > 0 {
			w.kill(pids[w.random.IntN(len(pids))])
		}
	case 5:
		if w.random.IntN(2) == 0 {
			d.OnExit(99, 0) // an orphan
		} else {
			d.OnSocketReplaced()
		}
	case 6:
		if len(pids) == 0 {
			break
		}
		if pid := pids[w.random.IntN(len(pids))]; w.random.IntN(4) > 0 {
			d.OnReady(pid)
		} else {
			w.report(d, pid)
		}
	default: // only time passes
		if c := w.sup.Candidate; c != nil && w.random.IntN(2) == 0 {
			d.OnReady(c.PID)
		}
	}
	if w.ending() { // finally even stubborn workers end
		for pid, c := range w.children {
			c.stubborn = c.stubborn && w.sup.rules.KillTimeout > 0
			if c.finalStop && !c.stubborn {
				w.kill(pid)
			}
		}
	}
}

// report passes something else that is found out about a worker.
func (w *world) report(d decider, pid int) {
	switch w.random.IntN(3) {
	case 0:
		d.OnExtend(pid, time.Second)
	case 1:
		d.OnMissing(pid, []string{"8080"})
	case 2:
		if w.rules.Readiness == ByAccepting {
			d.OnUnseen(pid, "not permitted")
		}
	}
}

// stop sends a signal to stop: the first one may be acted on later, the second one not.
func (w *world) stop(d decider) {
	w.stopBy = w.sup.now
	if !w.stopping && (w.sup.StartedAt > 0 || len(w.sup.Old) > 0) {
		w.stopBy += w.rules.StopDelay
	}
	w.stopping, w.lastHUP = true, false
	d.OnSignal([]syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT}[w.random.IntN(3)])
}

// ending reports whether the final stop has begun, by a signal or because the first start was given
// up.
func (w *world) ending() bool {
	return w.stopping && w.sup.now >= w.stopBy || w.sup.Phase == Stopping
}

// settle generates no further events, so that a worker must serve in the end.
func (w *world) settle(d decider, now *time.Duration) {
	w.settings.AutoRestart, w.sup.settings.AutoRestart = false, false
	for range 500 {
		if w.sup.Phase == Running || w.sup.Phase >= Stopping || w.err != nil {
			return
		}
		for pid, c := range w.children {
			if c.signalled > 0 {
				w.kill(pid)
			}
		}
		if at := w.sup.NextDeadline(); at != deadline.Never {
			*now = max(*now, at)
		}
		d.BeginStep(*now, time.Time{})
		w.reap(d)
		if c := w.sup.Candidate; c != nil {
			d.OnReady(c.PID)
		}
		d.OnTimer()
		w.check()
	}
	w.fail("without further events no worker serves")
}

// reap reports the dead processes.
func (w *world) reap(d decider) {
	for len(w.dead) > 0 {
		pid := w.dead[0]
		w.dead = w.dead[1:]
		d.OnExit(pid, w.statusOf(pid))
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
		known := slices.ContainsFunc(w.sup.Workers(), func(worker *Worker) bool { return worker.PID == pid })
		if !known && !slices.Contains(w.dead, pid) {
			w.fail("child %d is not accounted for", pid)
		}
	}
	if s := w.sup; s.Phase == Running && s.Current == nil {
		w.fail("running without a current worker")
	}
	if s := w.sup; s.Phase == Running && s.SocketReplaced && s.StopAt == 0 {
		w.fail("no worker was started for the socket that was replaced")
	}
	if c := w.sup.Current; c != nil && (c.Missing != nil || !c.Started) {
		w.fail("%d serves and does not accept connections on %v", c.PID, c.Missing)
	}
	if limit := w.rules.MaxOldWorkers; limit != nil && w.sup.Phase == Running && w.told(true) > *limit {
		w.fail("more than %d old workers are left", *limit)
	}
	if w.sup.Phase == Running && w.lastHUP {
		w.fail("a HUP was forgotten")
	}
	if w.sup.NextDeadline() <= w.sup.now && w.sup.Phase != Stopped {
		w.fail("something due was not done")
	}
	waiting := w.sup.waitingForOld()
	if w.sup.NextDeadline() == deadline.Never && !waiting && (w.sup.Phase == Starting || w.sup.Phase == Delaying) {
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

// told returns how many workers that have started were told to stop. Of the others the supervisor may
// not know yet that they have ended.
func (w *world) told(living bool) (n int) {
	for _, old := range w.sup.Old {
		if (!living || w.children[old.PID] != nil) && old.Started && old.StopSent {
			n++
		}
	}
	return n
}

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

func (w *world) Start(generation int) (int, error) {
	if w.ending() {
		w.fail("a worker is started while stopping")
	}
	if w.rules.StopFirst && len(w.children) > 0 {
		w.fail("two workers at once")
	}
	if limit := w.sup.rules.MaxAttempts; limit > 0 && w.failed >= limit && w.sup.Restart.Result == InProgress && (w.sup.Serving() != nil || w.sup.StartedAt == 0) {
		w.fail("another attempt after %d have failed", w.failed)
	}
	w.failed++
	if w.random.IntN(10) == 0 {
		w.lastHUP = w.lastHUP && w.sup.rules.MaxAttempts == 0 // an attempt was made
		return 0, errors.New("fork failed")
	}
	w.lastHUP = false
	w.pids++
	w.children[w.pids] = &child{generation: generation, stubborn: w.random.IntN(4) == 0}
	return w.pids, nil
}

func (w *world) Signal(pid int, sig syscall.Signal) {
	c := w.children[pid]
	if c == nil {
		if !slices.Contains(w.dead, pid) {
			w.fail("%v is sent to %d, which is not a child", sig, pid)
		}
		return
	}
	switch {
	case sig == syscall.SIGKILL:
		w.checkKill(pid, c)
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

// checkKill checks a KILL: without Rules.KillTimeout only workers that have not started get it, and
// the oldest if too many are left.
func (w *world) checkKill(pid int, c *child) {
	if c.signalled == 0 && !c.finalStop {
		w.fail("%d is killed without a signal to stop", pid)
	}
	limit := w.rules.MaxOldWorkers
	surplus := limit != nil && w.told(false) > *limit
	if c.started && w.rules.KillTimeout == 0 && !surplus {
		w.fail("%d, which has started, is killed", pid)
	}
}

// stopOne checks a signal to stop that is not part of the final stop.
func (w *world) stopOne(pid int, c *child) {
	c.signalled++
	if c.signalled > 1 {
		w.fail("%d is signalled to stop twice", pid)
	}
	newer := slices.ContainsFunc(w.status, func(s Worker) bool {
		return s.Generation > c.generation
	})
	if c.started && !newer && !w.rules.StopFirst {
		w.fail("%d is signalled to stop before a newer one has started", pid)
	}
	if c.started && w.stopping && w.rules.StopFirst {
		w.fail("%d is signalled to stop before the delay is over", pid)
	}
	if !c.stubborn && w.random.IntN(2) == 0 {
		w.kill(pid)
	}
}

func (w *world) Settings() Settings { return w.settings }

func (w *world) Executed(int) bool { return w.random.IntN(8) > 0 }

func (w *world) Forget(int) {}

func (w *world) WriteStatus(workers []*Worker) {
	w.status = nil
	for _, started := range workers {
		w.status = append(w.status, *started)
	}
	for _, s := range workers {
		if c := w.children[s.PID]; c != nil {
			c.started = true
		}
	}
}

func (w *world) ReopenLog() {}

func (w *world) Emit(Event) {}

func (w *world) Log(line string) {
	w.lines = append(w.lines, line)
	if w.unseen != "" && strings.HasPrefix(line, "new worker "+w.unseen+" does not accept") {
		w.fail("%s cannot be seen, and is stopped because it does not accept connections", w.unseen)
	}
	if pid, ok := strings.CutPrefix(line, "cannot see whether new worker "); ok {
		w.unseen, _, _ = strings.Cut(pid, " ")
	}
	for _, verdict := range []string{"received HUP", "autorestart", lines.SocketReplaced, "new worker is now running", "giving up the restart"} {
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

func (w *world) Notify(state string) {
	if strings.HasPrefix(state, "READY=1") && w.sup.Serving() == nil {
		w.fail("READY=1 while no worker serves")
	}
}

func (w *world) StartUpgrade() {}

// FuzzResume continues from states of another superdaemon. If they are accepted, the supervisor must
// not panic, and a stop must end it.
func FuzzResume(f *testing.F) {
	for _, seed := range []string{`{"phase":1,"generation":1,"current":{"pid":2,"generation":1}}`,
		`{"generation":3,"candidate":{"pid":3,"generation":3,"dead":true},"old":[{"pid":2,"generation":1,"kill_at":5}],"restarting":true,"deadline":7}`,
		`{"phase":2,"generation":2,"current":{"pid":3,"generation":2},"old":[{"pid":2,"generation":1}],"stop_at":1,"stop_signal":15}`} {
		f.Add([]byte(seed), int64(time.Second))
	}
	f.Fuzz(func(t *testing.T, text []byte, now int64) {
		var state State
		if json.Unmarshal(text, &state) != nil || state.Check(time.Duration(now)) != nil {
			return
		}
		w := &world{children: map[int]*child{}, random: rand.New(rand.NewPCG(0, 0)), pids: 1 << 30}
		s := New(Rules{Interval: 1, KillTimeout: 1, SignalOnHUP: sigTERM, SignalOnTERM: sigTERM}, Hints{}, w)
		w.sup = s
		s.Resume(state, 0)
		s.BeginStep(time.Duration(now), time.Time{})
		for _, worker := range s.Workers() {
			s.OnStatus(worker.PID, "text")
			s.OnExtend(worker.PID, time.Second)
			s.OnMissing(worker.PID, []string{"80"})
			s.OnReady(worker.PID)
		}
		s.OnTimer()
		s.OnSignal(syscall.SIGHUP)
		s.OnTimer()
		s.OnSignal(syscall.SIGTERM)
		s.OnSignal(syscall.SIGTERM) // the first one may only begin the delay, or be one that was sent again
		for _, old := range slices.Clone(s.Old) {
			s.OnExit(old.PID, 0)
		}
		if s.Phase != Stopped {
			t.Errorf("a stop does not end it: %+v", s.State)
		}
	})
}
