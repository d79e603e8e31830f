//go:build !windows

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jessevdk/go-flags"
)

// completing tells whether a shell wants to know what the last word of the command line may become. The
// variable is that of go-flags.
func completing() bool { return os.Getenv("GO_FLAGS_COMPLETION") != "" }

// complete says what the last word may become, one a line, with a tab and a description where there is
// one. File names are left to the shell, which knows better how to quote them.
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

// usualSignals are those that servers give a meaning to.
var usualSignals = strings.Fields("ABRT HUP INT KILL QUIT TERM USR1 USR2 WINCH")

// Complete is how go-flags asks.
func (*signalName) Complete(prefix string) (list []flags.Completion) {
	for _, name := range usualSignals {
		if strings.HasPrefix(name, strings.ToUpper(prefix)) {
			list = append(list, flags.Completion{Item: name})
		}
	}
	return list
}
