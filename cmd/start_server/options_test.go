package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

// TestHelpFits checks that --help fits a terminal of 80 columns.
func TestHelpFits(t *testing.T) {
	var help bytes.Buffer
	if status := run([]string{"--help"}, &help, os.Stderr); status != 0 {
		t.Fatalf("exit status of --help: %d", status)
	}
	for line := range strings.Lines(help.String()) {
		if len(line) > 80+len("\n") || strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
			t.Errorf("%d columns: %q", len(line)-1, line)
		}
	}
}

// TestLongWaits checks that numbers of seconds beyond a time.Duration are long waits, not negative
// ones.
func TestLongWaits(t *testing.T) {
	c, err := configOf([]string{"--interval=99999999999", "--kill-old-delay=99999999999", "--ready-timeout=99999999999", "server"}, io.Discard)
	if err != nil || c.Validate() != nil || c.Interval <= 0 || *c.KillOldDelay <= 0 || c.ReadyTimeout <= 0 {
		t.Errorf("%+v, %v, %v", c, err, c.Validate())
	}
}

// TestNegativeWaits checks that numbers of seconds below zero are errors, not long waits.
func TestNegativeWaits(t *testing.T) {
	for _, option := range []string{"interval", "auto-restart-interval", "kill-old-delay", "stop-delay", "ready-timeout", "kill-timeout"} {
		for _, value := range []string{"-1", "-9223372037", "-9223372036854775808"} {
			c, err := configOf([]string{"--" + option + "=" + value, "server"}, io.Discard)
			if err == nil {
				err = c.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), "--"+option+"=-") {
				t.Errorf("--%s=%s: %v, want an error", option, value, err)
			}
		}
	}
}
