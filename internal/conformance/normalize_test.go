//go:build conformance

package conformance

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// trace returns the files that a script left in its directory, as lines by file. It replaces what
// cannot be equal: pids, directories, the numbers of ports and of descriptors that were not
// requested.
func trace(t *testing.T, dir string) map[string][]string {
	texts := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasSuffix(path, ".pid") {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		texts[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := nameProcesses(texts)
	lines := map[string][]string{}
	for name, text := range texts {
		text = strings.ReplaceAll(text, dir, "$WORK")
		text = strings.NewReplacer(original, "$BIN", tested, "$BIN").Replace(text)
		text = renumber(text, texts[strings.TrimSuffix(name, ".env")+".fds"])
		lines[name] = normalize(name, number.ReplaceAllStringFunc(text, func(pid string) string {
			if n, ok := names[pid]; ok {
				return n
			}
			return pid
		}))
	}
	return lines
}

var (
	number  = regexp.MustCompile(`\b\d+\b`)
	started = regexp.MustCompile(`(?m)^(start|stop)_server \(pid:(\d+)\)|starting new worker (\d+)$`)
)

// nameProcesses returns names for the pids in logs, made of their kind and order of appearance:
// start_server-1, worker-2.
func nameProcesses(texts map[string]string) map[string]string {
	var logs []string
	for name := range texts {
		if name == "log" || strings.HasSuffix(name, ".log") {
			logs = append(logs, name)
		}
	}
	slices.Sort(logs)
	slices.Reverse(logs) // srv.log has the start_server, log its workers
	names := map[string]string{}
	count := map[string]int{}
	for _, log := range logs {
		for _, m := range started.FindAllStringSubmatch(texts[log], -1) {
			pid, kind := m[2]+m[3], "worker"
			if m[1] != "" {
				kind = m[1] + "_server"
			}
			if names[pid] == "" {
				count[kind]++
				names[pid] = fmt.Sprintf("%s-%d", kind, count[kind])
			}
		}
	}
	return names
}

func normalize(name, text string) []string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	switch base := filepath.Base(name); {
	case base == "log" || strings.HasSuffix(base, ".log"):
		return normalizeLog(lines)
	case strings.HasPrefix(base, "addr."):
		return []string{regexp.MustCompile(`:\d+$`).ReplaceAllString(lines[0], ":PORT")}
	case strings.HasSuffix(base, ".fds"):
		return strings.Split(renumber(text, text), "\n")
	}
	return lines
}

var (
	perlWarning = regexp.MustCompile(`^Use of uninitialized value|^Can't exec`)
	source      = regexp.MustCompile(` at \S+ line \d+\.$`)
	list        = regexp.MustCompile(`worker-\d+(,worker-\d+)+`)
	anytime     = regexp.MustCompile(`^(old )?worker \S+ died, status:\d+$|^(out|err)$`)
)

// normalizeLog moves the output of workers, and the exits of those that were stopped, to the end
// and sorts them: their order depends on the workers, and the original logs an exit only after a
// start that is under way.
func normalizeLog(lines []string) []string {
	var ordered, others []string
	for _, line := range lines {
		if perlWarning.MatchString(line) || strings.HasPrefix(line, "hint: ") { // the original has none
			continue
		}
		line = source.ReplaceAllString(line, "") // Perl's warnings name the source line
		line = list.ReplaceAllStringFunc(line, func(pids string) string {
			words := strings.Split(pids, ",")
			slices.Sort(words)
			return strings.Join(words, ",")
		})
		if anytime.MatchString(line) {
			others = append(others, line)
		} else {
			ordered = append(ordered, line)
		}
	}
	slices.Sort(others)
	return append(ordered, others...)
}

var (
	listed    = regexp.MustCompile(`(?m)^(\d+) socket `)
	ports     = regexp.MustCompile(`(?m)^SERVER_STARTER_PORT=.*$`)
	portsItem = regexp.MustCompile(`=(\d+)(;|$)`)
)

// renumber changes the numbers of the sockets among the descriptors, from 3 up, to 100, 101 and so
// on: those of the original begin at 4, since Perl has its script open at 3.
func renumber(text, descriptors string) string {
	var fds []int
	for _, m := range listed.FindAllStringSubmatch(descriptors, -1) {
		if fd, _ := strconv.Atoi(m[1]); fd > 2 {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	rank := func(digits string) string {
		fd, _ := strconv.Atoi(digits)
		if i := slices.Index(fds, fd); i >= 0 {
			return strconv.Itoa(100 + i)
		}
		return digits
	}
	text = listed.ReplaceAllStringFunc(text, func(m string) string {
		return rank(strings.Fields(m)[0]) + " socket "
	})
	return ports.ReplaceAllStringFunc(text, func(value string) string {
		name, value, _ := strings.Cut(value, "=")
		return name + "=" + portsItem.ReplaceAllStringFunc(value, func(m string) string {
			digits := strings.Trim(m, "=;")
			return strings.Replace(m, digits, rank(digits), 1)
		})
	})
}
