package scripttest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/measure"
)

// memorySlack is by how many bytes the memory of a superdaemon may exceed that of the first check:
// it varies with the garbage collector, and more with the race detector.
const memorySlack = 16 << 20

// usage is the usage of resources, which must not grow.
type usage struct {
	descriptors int
	memory      int // bytes
}

func healthy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: healthy NAME|FILE")
	}
	ps, name := processesOf(ts), args[0]
	pid := pidOf(ts, name)
	generation := waitServing(ts, pid, 0)
	ts.Check(unix.Kill(pid, unix.SIGHUP))
	waitServing(ts, pid, generation)
	if _, ok := ps.firstUsage[name]; !ok {
		ps.firstUsage[name] = leastUsage(pid)
	}
	first := ps.firstUsage[name]
	ts.Logf("generation %d: %+v, at the first check %+v", generation, leastUsage(pid), first)
	waitFor(ts, func() bool {
		now := leastUsage(pid)
		return now.descriptors <= first.descriptors && now.memory <= first.memory+memorySlack
	}, func() string {
		return fmt.Sprintf("at the first check %+v, now %+v", first, leastUsage(pid))
	})
}

var oneWorker = regexp.MustCompile(`\A(\d+):(\d+)\n\z`)

// waitServing waits until the superdaemon has one worker only, of a generation after the given one,
// which answers. It checks again if there is another worker: an earlier HUP may not have been acted
// on yet.
func waitServing(ts *testscript.TestScript, superdaemon, after int) (generation int) {
	var err error
	waitFor(ts, func() bool {
		generation, err = checkServing(ts, superdaemon, after)
		return err == nil
	}, func() string { return err.Error() })
	return generation
}

func checkServing(ts *testscript.TestScript, superdaemon, after int) (generation int, err error) {
	text, err := os.ReadFile(ts.MkAbs("status"))
	if err != nil {
		return 0, err
	}
	line := oneWorker.FindSubmatch(text)
	if line == nil {
		return 0, fmt.Errorf("the status file holds %q", text)
	}
	generation, _ = strconv.Atoi(string(line[1]))
	if generation <= after {
		return 0, fmt.Errorf("generation %d is not newer than %d", generation, after)
	}
	if err := checkChildren(superdaemon, string(line[2])); err != nil {
		return 0, err
	}
	answer, err := request("unix", ts.MkAbs("app.sock"), "/", timeout(ts))
	if err != nil {
		return 0, err
	}
	if answer != fmt.Sprintf("generation %s pid %s\n", line[1], line[2]) {
		return 0, fmt.Errorf("the status file holds %q, the answer is %q", text, answer)
	}
	return generation, nil
}

// checkChildren fails if a child of the superdaemon is a zombie or a second worker. Children named
// sh or cat are log commands.
func checkChildren(superdaemon int, worker string) error {
	found := false
	stats, _ := filepath.Glob("/proc/[1-9]*/stat")
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// PID (NAME) STATE PPID, and the name may hold any byte (proc_pid_stat(5)).
		head, tail, _ := cutLast(string(text), ") ")
		fields := strings.Fields(tail)
		if len(fields) < 2 || fields[1] != strconv.Itoa(superdaemon) {
			continue
		}
		pid, name, _ := strings.Cut(head, " (")
		switch {
		case fields[0] == "Z":
			return fmt.Errorf("%s (%s) is a zombie", pid, name)
		case pid == worker:
			found = true
		case name != "sh" && name != "cat":
			return fmt.Errorf("%s (%s) runs beside worker %s", pid, name, worker)
		}
	}
	if !found {
		return fmt.Errorf("worker %s is not a child of %d", worker, superdaemon)
	}
	return nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// leastUsage returns the minimum of a few samples: a descriptor may be open for a moment.
func leastUsage(pid int) usage {
	least := usage{1 << 30, 1 << 30}
	for range 5 {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		least.descriptors = min(least.descriptors, len(fds))
		if bytes, err := measure.AnonymousMemory(pid); err == nil {
			least.memory = min(least.memory, bytes)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return least
}
