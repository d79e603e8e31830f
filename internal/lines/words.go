package lines

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// What log lines share with verdicts and descriptions.

func HowNotReady(timeout time.Duration) string {
	return fmt.Sprintf("not ready in %s secs", Seconds(timeout))
}

func HowNotAccepting(keys []string, timeout time.Duration) string {
	return fmt.Sprintf("does not accept connections on %s after %s secs", Keys(keys), Seconds(timeout))
}

// Keys lists sockets by their keys.
func Keys(keys []string) string {
	if len(keys) == 0 {
		return "any socket"
	}
	return strings.Join(keys, ", ")
}

func Seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
}

func PIDs(pids []int) string {
	words := make([]string, len(pids))
	for i, pid := range pids {
		words[i] = strconv.Itoa(pid)
	}
	return strings.Join(words, ",")
}

func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Numbered is a line about one of the processes of a worker.
func Numbered(line string, number int) string {
	return fmt.Sprintf("%s (number %d)", line, number)
}
