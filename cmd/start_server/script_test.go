package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/start-server/start-server/internal/story"
)

// TestStories plays what a user sees: testdata/script, one story a file.
func TestStories(t *testing.T) {
	bin := t.TempDir()
	if err := os.Chmod(filepath.Dir(bin), 0o755); err != nil { // some stories are played by another user
		t.Fatal(err)
	}
	story.Build(t, bin, ".", "../../testdata/worker")
	testscript.Run(t, story.Params("../../testdata/script", bin))
}
