package pidfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCreateHardLink: in a folder that everybody may write to, somebody can have given the name to a file of ours.
func TestCreateHardLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	precious, path := filepath.Join(dir, "precious"), filepath.Join(dir, "pid")
	if err := os.WriteFile(precious, []byte("leave me alone"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(precious, path); err != nil {
		t.Fatal(err)
	}
	if f, err := Create(path, os.Getpid()); err == nil {
		_ = f.Remove()
		t.Error("it was taken for a pid file")
	} else if !strings.Contains(err.Error(), "hard link") {
		t.Error(err)
	}
	if text, err := os.ReadFile(precious); string(text) != "leave me alone" || err != nil {
		t.Errorf("the file holds %q (%v)", text, err)
	}
}
