package starter

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/status"
)

// TestStopWithoutPIDFile checks that --stop signals no worker unless a pid file that is not locked
// says that the superdaemon is gone.
func TestStopWithoutPIDFile(t *testing.T) {
	out, err := exec.Command("sh", "-c", "SERVER_STARTER_GENERATION=1 sleep 1000 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(pid, unix.SIGKILL)
	dir := t.TempDir()
	c := Control{PIDFile: filepath.Join(dir, "pid"), StatusFile: filepath.Join(dir, "status"), SignalOnTERM: "KILL"}
	if err := status.Write(c.StatusFile, []status.Worker{{Generation: 1, PID: pid}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), io.Discard); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a pid file: %v", err)
	}
	if err := os.WriteFile(c.PIDFile, []byte(strconv.Itoa(pid)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), io.Discard); err != nil {
		t.Errorf("with one that is not locked: %v", err)
	}
}
