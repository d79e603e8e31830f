package graceful

import (
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/start-server/start-server/listener"
)

// signals are the ones that stop a group.
type signals struct {
	term, interrupt chan os.Signal
	ignored         chan os.Signal // what start_server may send, and does not stop the group
	interrupts      int            // how many have arrived
	keepTERM        bool           // TERM stays without effect after stop
}

// notifySignals takes TERM, under start_server QUIT (which public deploy scripts have as
// --signal-on-hup; by hand it shows the stacks), and the further ones as TERM.
func notifySignals(further []os.Signal) *signals {
	s := &signals{term: make(chan os.Signal, 1), interrupt: make(chan os.Signal, 2)}
	signal.Notify(s.term, append([]os.Signal{syscall.SIGTERM}, further...)...)
	if listener.IsUnderStartServer() {
		signal.Notify(s.term, quit...)
		s.ignored = make(chan os.Signal, 1)
		for _, sig := range ignored {
			if !slices.Contains(further, sig) {
				signal.Notify(s.ignored, sig)
			}
		}
	}
	if !slices.Contains(further, os.Interrupt) {
		signal.Notify(s.interrupt, os.Interrupt)
	}
	return s
}

func (s *signals) stop() {
	signal.Stop(s.interrupt)
	signal.Stop(s.ignored)
	if !s.keepTERM {
		signal.Stop(s.term)
	}
}

// interrupted counts a SIGINT and reports whether it begins the drain. Under start_server, which
// gets a Ctrl-C too and then sends TERM, the first one does not.
func (s *signals) interrupted() bool {
	return s.repeated() || !listener.IsUnderStartServer()
}

// repeated counts a SIGINT and reports whether it came again.
func (s *signals) repeated() bool {
	s.interrupts++
	return s.interrupts > 1
}
