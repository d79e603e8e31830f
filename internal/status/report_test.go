package status

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	t.Parallel()
	at := Timestamp(time.Date(2026, 11, 21, 9, 0, 0, 123, time.FixedZone("", 3600)))
	took := 1.25
	report := Report{
		Superdaemon: Superdaemon{PID: 1, Version: "1.0", Started: at, Phase: "running"},
		Workers:     []WorkerReport{{PID: 2, Generation: 3, State: "serving", Since: at, Status: `"quoted"`}, {PID: 4}},
		LastRestart: &Restart{Number: 5, Result: "given up", Generation: 6, Attempts: 7, Reason: "exit status 8", Duration: &took},
	}
	path := filepath.Join(t.TempDir(), "json")
	if err := Replace(path, report.Encode()); err != nil {
		t.Fatal(err)
	}
	got, err := ReadReport(path)
	if diff := cmp.Diff(report, got); err != nil || diff != "" {
		t.Errorf("%v; what was read (+) is not what was written (-):\n%s", err, diff)
	}
	text := string(report.Encode())
	for _, want := range []string{`"started": "2026-11-21T08:00:00Z"`, `"duration": 1.25`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Count(text, "since") != 1 {
		t.Errorf("a time that is not known is written:\n%s", text)
	}
}

func TestReadReportErrors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "json")
	if _, err := ReadReport(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadReport(path); err == nil || !strings.HasPrefix(err.Error(), "read JSON status") {
		t.Errorf("half a file: %v", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(os.DevNull, link); err != nil {
		t.Fatal(err)
	}
	for path, allowed := range map[string]bool{
		file: true, dir + "/none": true, dir + "/none/file": true, dir: false, os.DevNull: false, link: false,
	} {
		if err := Check(path); (err == nil) != allowed {
			t.Errorf("%s: %v", path, err)
		}
	}
}
