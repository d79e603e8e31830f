package graceful

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/start-server/start-server/listener"
)

// signals are the ones that stop a group.
type signals struct {
	term, interrupt chan os.Signal
	interrupts      int  // how many have arrived
	keepTERM        bool // TERM stays without effect after stop
}

func notifySignals() *signals {
	s := &signals{term: make(chan os.Signal, 1), interrupt: make(chan os.Signal, 2)}
	signal.Notify(s.term, syscall.SIGTERM)
	signal.Notify(s.interrupt, os.Interrupt)
	return s
}

func (s *signals) stop() {
	signal.Stop(s.interrupt)
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
