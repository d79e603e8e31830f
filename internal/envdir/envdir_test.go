package envdir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"PLAIN": "value\n", "SPACES": "  a b \t\nsecond line\n", "NO_NEWLINE": "x", "CR": "x\r\n", "EMPTY_LINE": "\nsecond",
		"EMPTY_FILE": "", ".hidden": "x\n", "NUL": "a\x00b\n", "A=B": "x\n", "odd name": "y\n", "BINARY": "\xff\xfe\n",
		"LATE_NUL": "a\nb\x00", "LONG": strings.Repeat("x", maxLine),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(
		unix.Mkfifo(filepath.Join(dir, "FIFO"), 0o600),
		os.Mkdir(filepath.Join(dir, "DIR"), 0o700),
		os.Symlink("PLAIN", filepath.Join(dir, "LINK")),
		os.Symlink("nowhere", filepath.Join(dir, "DANGLING")),
	)
	if err != nil {
		t.Fatal(err)
	}
	got, errs := Read(dir)
	want := map[string]string{
		"PLAIN": "value", "SPACES": "  a b \t", "NO_NEWLINE": "x", "CR": "x\r", "EMPTY_LINE": "", "odd name": "y", "BINARY": "\xff\xfe",
		"LATE_NUL": "a", "LINK": "value",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var messages strings.Builder
	for _, err := range errs {
		messages.WriteString(err.Error() + "\n")
	}
	for _, name := range []string{"NUL", "A=B", "FIFO", "DANGLING", "LONG"} {
		if !strings.Contains(messages.String(), filepath.Join(dir, name)) {
			t.Errorf("no error names %s", name)
		}
	}
	if len(errs) != 5 {
		t.Errorf("%d errors, want 5:\n%s", len(errs), messages.String())
	}
}

func TestReadWithoutDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file, file + "/none"} {
		if got, errs := Read(dir); got == nil || len(got) > 0 || errs != nil {
			t.Errorf("Read(%q) = %v, %v; want an empty map", dir, got, errs)
		}
	}
}
