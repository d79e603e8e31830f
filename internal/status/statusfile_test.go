package status

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestWriteThenRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "status")
	// A stale temporary file that is a symbolic link must not be followed.
	victim := filepath.Join(dir, "victim")
	if err := os.Symlink(victim, path+"."+strconv.Itoa(os.Getpid())); err != nil {
		t.Fatal(err)
	}
	workers := []Worker{{2, 200}, {10, 300}}
	if err := Write(path, workers); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "2:200\n10:300\n" {
		t.Errorf("the file holds %q, %v", got, err)
	}
	if got, err := Read(path); err != nil || !slices.Equal(got, []Worker{{2, 200}, {10, 300}}) {
		t.Errorf("Read = %v, %v", got, err)
	}
	if err := Write(path, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path); err != nil || got != nil {
		t.Errorf("Read = %v, %v; want nothing", got, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestWriteErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "status")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Write over a directory: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	path = filepath.Join(dir, "none", "status")
	if err := Write(path, nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("Write into a directory that does not exist: %v", err)
	}
	if _, err := Read(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("Read without a file: %v", err)
	}
}

func TestReadSkipsOtherLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status")
	text := "# comment\n1:100\n\n2\n:5\nx:7\n3:y\n-4:8\n5:99999999999\n6:600\r\n7:700"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path); err != nil || !slices.Equal(got, []Worker{{1, 100}, {7, 700}}) {
		t.Errorf("Read = %v, %v", got, err)
	}
}
