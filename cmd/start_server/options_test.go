package main

import (
	"io"
	"testing"
)

// TestLongWaits: numbers of seconds that no time.Duration holds are long waits, not negative ones.
func TestLongWaits(t *testing.T) {
	c, err := configOf([]string{"--interval=99999999999", "--kill-old-delay=99999999999", "--ready-timeout=99999999999", "server"}, io.Discard)
	if err != nil || c.Validate() != nil || c.Interval <= 0 || *c.KillOldDelay <= 0 || c.ReadyTimeout <= 0 {
		t.Errorf("%+v, %v, %v", c, err, c.Validate())
	}
}
