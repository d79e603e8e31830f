package starter

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestRunBeingChecked calls Run as a program does that does not know of upgrades, when it is
// started with --version to check whether it can continue: nothing may be bound or started.
func TestRunBeingChecked(t *testing.T) {
	t.Setenv("START_SERVER_PROBE", "3")
	marker := filepath.Join(t.TempDir(), "started")
	c := NewConfig("touch", marker)
	c.Paths = []string{filepath.Join(t.TempDir(), "s")}
	if err := Run(t.Context(), c); !errors.Is(err, ErrUpgradeCheck) {
		t.Errorf("Run returned %v", err)
	}
	for _, path := range []string{c.Paths[0], marker} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
