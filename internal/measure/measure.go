// Package measure has what the measuring tools and the tests share.
package measure

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
)

// AnonymousMemory returns the resident memory of a process, in bytes, that is not backed by a file
// (RssAnon of proc_pid_status(5), Linux). Pages of a file are shared with every process that runs
// the same executable, and the kernel takes them back when it needs the memory.
func AnonymousMemory(pid int) (int, error) {
	name := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte("RssAnon:")); ok {
			kib, err := strconv.Atoi(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(value), []byte("kB")))))
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no line RssAnon", name)
}

// FreeAddress returns a TCP address of this host that was free a moment ago, for a superdaemon that
// is killed and started again.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
