package scripttest

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func waitMatch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: waitmatch FILE REGEXP [COUNT]")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	count := 1
	if len(args) == 3 {
		count, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	file := ts.MkAbs(args[0])
	waitFor(ts, func() bool {
		text, err := os.ReadFile(file)
		return err == nil && len(pattern.FindAllIndex(text, -1)) >= count
	}, func() string {
		return fmt.Sprintf("%s does not match %q %d times:\n%s", args[0], args[1], count, contents(ts, args[0]))
	})
}

func waitGone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitgone FILE")
	}
	waitFor(ts, func() bool {
		_, err := os.Lstat(ts.MkAbs(args[0]))
		return os.IsNotExist(err)
	}, func() string { return args[0] + " still exists" })
}

// waitFor waits until the condition holds. After $TIMEOUT the script fails with the text that
// failure returns.
func waitFor(ts *testscript.TestScript, condition func() bool, failure func() string) {
	deadline := time.Now().Add(timeout(ts))
	for !condition() {
		if time.Now().After(deadline) {
			ts.Fatalf("%s", failure())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func timeout(ts *testscript.TestScript) time.Duration {
	d, err := time.ParseDuration(ts.Getenv("TIMEOUT"))
	ts.Check(err)
	return d
}

// contents returns the text of a file, or the text of the error if it cannot be read.
func contents(ts *testscript.TestScript, file string) string {
	text, err := os.ReadFile(ts.MkAbs(file))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func write(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: write FILE LINE...")
	}
	text := ""
	for _, line := range args[1:] {
		text += line + "\n"
	}
	file := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(file+".new", []byte(text), 0o666))
	ts.Check(os.Rename(file+".new", file))
}
