package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/start-server/start-server/internal/story"
)

// TestMain plays many stories at once: they wait for seconds to pass, most of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestStories plays what a user sees: testdata/script, one story a file.
func TestStories(t *testing.T) {
	bin := t.TempDir()
	if err := os.Chmod(filepath.Dir(bin), 0o755); err != nil { // some stories are played by another user
		t.Fatal(err)
	}
	story.Build(t, bin, ".", "../../testdata/worker")
	testscript.Run(t, story.Params("../../testdata/script", bin))
}
