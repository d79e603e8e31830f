package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Children returns the pids of the children of a process (proc_tid_children(5)). Children that it
// starts or reaps meanwhile may be missing.
func Children(pid int) (children []int) {
	for _, thread := range threads(pid) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, thread))
		for word := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(word); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// KillBelow sends KILL to every process below a stopped one that is in the same session. Each of
// them is stopped first, so that none starts or reaps another process meanwhile.
func KillBelow(pid int) {
	parent, _ := ReadStat(pid)
	for _, child := range Children(pid) {
		if s, ok := ReadStat(child); ok && s.Session == parent.Session {
			_ = unix.Kill(child, unix.SIGSTOP)
			KillBelow(child)
			_ = unix.Kill(child, unix.SIGKILL)
		}
	}
}
