package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// phases and events are the columns and rows of the table of covered cases.
var (
	phases = []Phase{Starting, Running, Delaying, Stopping}
	names  = []string{"starting", "running", "delaying", "stopping"}
	events = []struct {
		name string
		only []Phase // in which it can happen; nil for all
	}{
		{name: "HUP"},
		{name: "TERM, INT, QUIT"},
		{name: "USR2"},
		{name: "another signal"},
		{name: "the candidate exits", only: []Phase{Starting}},
		{name: "the current worker exits", only: []Phase{Starting, Running, Delaying}},
		{name: "an old worker exits"},
		{name: "an orphan exits"},
		{name: "a socket was replaced"},
		{name: "the candidate is ready", only: []Phase{Starting}},
		{name: "another worker is ready"},
		{name: "the candidate does not accept", only: []Phase{Starting}},
		{name: "another worker does not accept"},
		{name: "the candidate cannot be seen", only: []Phase{Starting}},
		{name: "another worker cannot be seen"},
		{name: "the candidate wants more time", only: []Phase{Starting}},
		{name: "another worker wants more time"},
		{name: "something is due"},
		{name: "nothing is due"},
	}
)

// coverage counts how often each event was handled in each phase.
type coverage struct {
	mu    sync.Mutex
	cells map[string]map[Phase]int
}

func newCoverage() *coverage {
	c := &coverage{cells: map[string]map[Phase]int{}}
	for _, e := range events {
		c.cells[e.name] = map[Phase]int{}
	}
	return c
}

func (c *coverage) add(other *coverage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, row := range other.cells {
		for p, n := range row {
			c.cells[name][p] += n
		}
	}
}

// check logs the table. After enoughSchedules every cell that can be reached must have been
// reached.
func (c *coverage) check(t *testing.T) {
	t.Helper()
	table := &strings.Builder{}
	fmt.Fprintf(table, "%-32s", "handled while")
	for i := range phases {
		fmt.Fprintf(table, "%12s", names[i])
	}
	for _, e := range events {
		fmt.Fprintf(table, "\n%-32s", e.name)
		for i, p := range phases {
			n, possible := c.cells[e.name][p], e.only == nil || slices.Contains(e.only, p)
			switch {
			case !possible && n == 0:
				fmt.Fprintf(table, "%12s", "-")
				continue
			case !possible:
				t.Errorf("%s: handled %d times while %s, which is impossible", e.name, n, names[i])
			case n == 0 && *schedules >= enoughSchedules:
				t.Errorf("%s: never handled while %s", e.name, names[i])
			}
			fmt.Fprintf(table, "%12d", n)
		}
	}
	t.Logf("%d schedules\n%s", *schedules, table)
}

// observed is a supervisor that counts the events it handles.
type observed struct {
	*Supervisor
	seen *coverage
}

func (o observed) count(name string) { o.seen.cells[name][o.Phase]++ }

func (o observed) OnSignal(sig syscall.Signal) {
	switch sig {
	case syscall.SIGHUP:
		o.count("HUP")
	case syscall.SIGUSR2:
		o.count("USR2")
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
		o.count("TERM, INT, QUIT")
	default:
		o.count("another signal")
	}
	o.Supervisor.OnSignal(sig)
}

func (o observed) OnSocketReplaced() {
	o.count("a socket was replaced")
	o.Supervisor.OnSocketReplaced()
}

func (o observed) isCandidate(pid int) bool { return o.Candidate != nil && o.Candidate.PID == pid }

func (o observed) OnExit(pid, status int) {
	switch {
	case o.isCandidate(pid):
		o.count("the candidate exits")
	case o.Current != nil && o.Current.PID == pid:
		o.count("the current worker exits")
	case o.find(pid) != nil:
		o.count("an old worker exits")
	default:
		o.count("an orphan exits")
	}
	o.Supervisor.OnExit(pid, status)
}

func (o observed) OnReady(pid int) {
	if o.isCandidate(pid) {
		o.count("the candidate is ready")
	} else {
		o.count("another worker is ready")
	}
	o.Supervisor.OnReady(pid)
}

func (o observed) OnMissing(pid int, keys []string) {
	if o.isCandidate(pid) {
		o.count("the candidate does not accept")
	} else {
		o.count("another worker does not accept")
	}
	o.Supervisor.OnMissing(pid, keys)
}

func (o observed) OnUnseen(pid int, why string) {
	if o.isCandidate(pid) {
		o.count("the candidate cannot be seen")
	} else {
		o.count("another worker cannot be seen")
	}
	o.Supervisor.OnUnseen(pid, why)
}

func (o observed) OnExtend(pid int, by time.Duration) {
	if o.isCandidate(pid) {
		o.count("the candidate wants more time")
	} else {
		o.count("another worker wants more time")
	}
	o.Supervisor.OnExtend(pid, by)
}

func (o observed) OnTimer() {
	if o.NextDeadline() <= o.now {
		o.count("something is due")
	} else {
		o.count("nothing is due")
	}
	o.Supervisor.OnTimer()
}
