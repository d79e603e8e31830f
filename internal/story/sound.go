package story

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

// memorySlack is by how many KiB the memory of a superdaemon may differ between two looks at it: the garbage
// collector's moods, and the race detector's, which are larger.
const memorySlack = 16 << 10

// figures are what must not grow, whatever happens to a superdaemon.
type figures struct {
	descriptors int
	memory      int // KiB
}

// sound fails unless the superdaemon is in good health: the worker that its status file names is its only one, lives
// and answers; no child is left unburied; the next HUP works; and it holds no more descriptors and memory than at the
// first look at it in this story.
func sound(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sound NAME")
	}
	c, name := castOf(ts), args[0]
	file := name
	if c.member(name) != nil {
		file += ".pid"
	}
	pid := pidIn(ts, file)
	generation := serving(ts, pid, 0)
	ts.Check(unix.Kill(pid, unix.SIGHUP))
	serving(ts, pid, generation)
	if _, ok := c.figures[name]; !ok {
		c.figures[name] = measure(pid)
	}
	ts.Logf("generation %d: %+v, at the first look %+v", generation, measure(pid), c.figures[name])
	waitFor(ts, func() bool {
		now, first := measure(pid), c.figures[name]
		return now.descriptors <= first.descriptors && now.memory <= first.memory+memorySlack
	}, func() string {
		return fmt.Sprintf("%+v have become %+v", c.figures[name], measure(pid))
	})
}

var oneWorker = regexp.MustCompile(`\A(\d+):(\d+)\n\z`)

// serving waits until one worker of a newer generation is all that the superdaemon has, and is who answers.
func serving(ts *testscript.TestScript, superdaemon, than int) (generation int) {
	wrong := "nobody looked"
	waitFor(ts, func() bool {
		text, _ := os.ReadFile(ts.MkAbs("status"))
		line := oneWorker.FindSubmatch(text)
		if line == nil {
			wrong = fmt.Sprintf("the status file holds %q", text)
			return false
		}
		generation, _ = strconv.Atoi(string(line[1]))
		if generation <= than {
			wrong = fmt.Sprintf("generation %d is not newer than %d", generation, than)
			return false
		}
		wrong = children(superdaemon, string(line[2]))
		return wrong == ""
	}, func() string { return wrong })
	worker := strings.TrimSpace(ts.ReadFile("status"))
	answer, err := ask("unix", ts.MkAbs("app.sock"), "/", patience(ts))
	ts.Check(err)
	if g, pid, _ := strings.Cut(worker, ":"); strings.TrimSpace(answer) != fmt.Sprintf("generation %s pid %s", g, pid) {
		ts.Fatalf("the status file says %s, the answer is %q", worker, answer)
	}
	return generation
}

// children tells what is wrong with them: a zombie, or a second worker. Log commands are shells and cats.
func children(superdaemon int, worker string) (wrong string) {
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
			return fmt.Sprintf("%s (%s) is there beside worker %s", pid, name, worker)
		}
	}
	if !found {
		return fmt.Sprintf("worker %s is no child of %d", worker, superdaemon)
	}
	return ""
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// measure takes the least of a few looks: something short may be under way.
func measure(pid int) figures {
	least := figures{1 << 30, 1 << 30}
	for range 5 {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		least.descriptors = min(least.descriptors, len(fds))
		least.memory = min(least.memory, anonymous(pid))
		time.Sleep(2 * time.Millisecond)
	}
	return least
}

// anonymous is the memory of a process that no file stands behind, in KiB.
func anonymous(pid int) (kib int) {
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
