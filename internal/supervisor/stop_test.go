package supervisor

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// TestResentStop checks that a TERM that is sent again, because an upgrade was under way when the
// first one was, is not taken for a second one, which would stop the workers at once.
func TestResentStop(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		after time.Duration // from the upgrade to the TERM
		stops bool
	}{
		"sent again":  {10 * time.Millisecond, false},
		"another one": {3 * time.Second, true},
	} {
		state := State{
			Phase: Running, Generation: 1, Current: &Worker{PID: 7, Generation: 1, Started: true},
			StopAt: 10 * time.Second, StopSignal: syscall.SIGTERM,
		}
		w := &world{children: map[int]*child{7: {generation: 1, started: true}}, random: rand.New(rand.NewPCG(0, 0))}
		w.sup = New(Rules{StopDelay: 8 * time.Second, SignalOnHUP: sigTERM, SignalOnTERM: sigTERM}, Hints{}, w)
		w.sup.Resume(state, 3*time.Second)
		w.sup.BeginStep(3*time.Second+test.after, time.Time{})
		w.sup.OnSignal(syscall.SIGTERM)
		if stops := w.sup.Phase == Stopping; stops != test.stops {
			t.Errorf("%s: the workers are stopped: %v, want %v", name, stops, test.stops)
		}
	}
}
