package scripttest

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// memorySlack is by how many KiB the memory of a superdaemon may exceed that of the first check: the garbage collector's
// variation, and the race detector's, which is larger.
const memorySlack = 16 << 10

// usage is what must not grow, whatever happens to a superdaemon.
type usage struct {
	descriptors int
	memory      int // KiB
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
		ps.firstUsage[name] = measure(pid)
	}
	first := ps.firstUsage[name]
	ts.Logf("generation %d: %+v, at the first check %+v", generation, measure(pid), first)
	waitFor(ts, func() bool {
		now := measure(pid)
		return now.descriptors <= first.descriptors && now.memory <= first.memory+memorySlack
	}, func() string {
		return fmt.Sprintf("at the first check %+v, now %+v", first, measure(pid))
	})
}

var oneWorker = regexp.MustCompile(`\A(\d+):(\d+)\n\z`)

// waitServing waits until the superdaemon has one worker only, of a generation after the given one, which answers.
func waitServing(ts *testscript.TestScript, superdaemon, after int) (generation int) {
	wrong := ""
	waitFor(ts, func() bool {
		text, _ := os.ReadFile(ts.MkAbs("status"))
		line := oneWorker.FindSubmatch(text)
		if line == nil {
			wrong = fmt.Sprintf("the status file holds %q", text)
			return false
		}
		generation, _ = strconv.Atoi(string(line[1]))
		if generation <= after {
			wrong = fmt.Sprintf("generation %d is not newer than %d", generation, after)
			return false
		}
		wrong = checkChildren(superdaemon, string(line[2]))
		return wrong == ""
	}, func() string { return wrong })
	status := strings.TrimSpace(ts.ReadFile("status"))
	answer, err := request("unix", ts.MkAbs("app.sock"), "/", timeout(ts))
	ts.Check(err)
	if g, pid, _ := strings.Cut(status, ":"); strings.TrimSpace(answer) != fmt.Sprintf("generation %s pid %s", g, pid) {
		ts.Fatalf("the status file holds %s, the answer is %q", status, answer)
	}
	return generation
}

// checkChildren returns what is wrong with the superdaemon's children: a zombie, or a second worker. Log commands are
// shells and cats.
func checkChildren(superdaemon int, worker string) (wrong string) {
	found := false
	stats, _ := filepath.Glob("/proc/[1-9]*/stat")
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// PID (NAME) STATE PPID, and the name may hold anything (proc_pid_stat(5)).
		head, tail, _ := cutLast(string(text), ") ")
		fields := strings.Fields(tail)
		if len(fields) < 2 || fields[1] != strconv.Itoa(superdaemon) {
			continue
		}
		pid, name, _ := strings.Cut(head, " (")
		switch {
		case fields[0] == "Z":
			return fmt.Sprintf("%s (%s) is a zombie", pid, name)
		case pid == worker:
			found = true
		case name != "sh" && name != "cat":
			return fmt.Sprintf("%s (%s) runs beside worker %s", pid, name, worker)
		}
	}
	if !found {
		return fmt.Sprintf("worker %s is not a child of %d", worker, superdaemon)
	}
	return ""
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// measure returns the least of a few samples: a descriptor may be open for a moment.
func measure(pid int) usage {
	least := usage{1 << 30, 1 << 30}
	for range 5 {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		least.descriptors = min(least.descriptors, len(fds))
		least.memory = min(least.memory, anonymousMemory(pid))
		time.Sleep(2 * time.Millisecond)
	}
	return least
}

// anonymousMemory returns the resident memory of a process that is not backed by a file, in KiB.
func anonymousMemory(pid int) (kib int) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if n, err := fmt.Sscanf(lines.Text(), "RssAnon: %d kB", &kib); n == 1 && err == nil {
			return kib
		}
	}
	return 0
}
