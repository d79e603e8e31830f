package supervisor

import (
	"fmt"

	"github.com/start-server/start-server/internal/lines"
)

// describe returns a description of the state for systemctl status.
func (s *Supervisor) describe() string {
	if s.Phase == Stopping {
		return fmt.Sprintf("stopping, waiting for %s", lines.Count(len(s.Old), "worker"))
	}
	text := "no worker is serving"
	if serving := s.Serving(); serving != nil {
		text = fmt.Sprintf("generation %d (pid %d) is serving", serving.Generation, serving.PID)
		if serving.StatusText != "" {
			text += ": " + serving.StatusText
		}
	}
	if c := s.Candidate; c != nil && !c.Dead {
		text += fmt.Sprintf("; generation %d (pid %d) is starting", c.Generation, c.PID)
		if len(c.Missing) > 0 {
			text += ", does not accept connections on " + lines.Keys(c.Missing)
		}
	}
	if n := len(s.Old) - len(s.notYetStopped()); n > 0 {
		text += fmt.Sprintf("; %s finishing", lines.Count(n, "old worker"))
	}
	if s.StopAt > 0 {
		text += "; stopping soon"
	}
	if r := s.Restart; r.Result == GivenUp {
		text += fmt.Sprintf("; the last restart was given up after %s: %s", lines.Count(r.Attempts, "attempt"), r.Reason)
	}
	return text
}
