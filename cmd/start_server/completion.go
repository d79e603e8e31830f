//go:build !windows

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jessevdk/go-flags"
)

// completing reports whether a shell asks for completions of the last word of the command line. The
// variable is that of go-flags.
func completing() bool { return os.Getenv("GO_FLAGS_COMPLETION") != "" }

// complete prints the completions of the last word, one per line, each with a tab and a description
// if it has one. It leaves file names to the shell, which knows how to quote them.
func complete(argv []string, stdout io.Writer) error {
	parser, err := newParser(&options{})
	if err != nil {
		return err
	}
	parser.CompletionHandler = func(items []flags.Completion) {
		for _, item := range items {
			fmt.Fprintln(stdout, strings.TrimSuffix(item.Item+"\t"+item.Description, "\t"))
		}
	}
	_, err = parser.ParseArgs(argv)
	return err
}

// A signalName is the value of an option that names a signal.
type signalName string

// usualSignals are the signals that servers act on.
var usualSignals = strings.Fields("ABRT HUP INT KILL QUIT TERM USR1 USR2 WINCH")

// Complete returns the completions of a value. go-flags calls it.
func (*signalName) Complete(prefix string) (list []flags.Completion) {
	for _, name := range usualSignals {
		if strings.HasPrefix(name, strings.ToUpper(prefix)) {
			list = append(list, flags.Completion{Item: name})
		}
	}
	return list
}
