package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/start-server/start-server/internal/scripttest"
)

// TestMain lets more scripts run at once than there are processors: most of the time they wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestScripts runs the scripts in testdata/script: what a user types and sees.
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	if err := os.Chmod(filepath.Dir(bin), 0o755); err != nil { // some scripts run as another user
		t.Fatal(err)
	}
	scripttest.Build(t, bin, ".", "../../testdata/worker", "../../testdata/hangfs")
	testscript.Run(t, scripttest.Params("../../testdata/script", bin))
}
