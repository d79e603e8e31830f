//go:build !windows

// Command start_server is a superdaemon for hot-deploying server programs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	_ "github.com/start-server/start-server/internal/oneprocessor"
	"github.com/start-server/start-server/starter"
)

func main() {
	time.AfterFunc(time.Second, reduceFootprint)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// reduceFootprint makes the garbage collector run early: the superdaemon is mostly idle, and the
// memory is for the servers. While it starts, that would only delay it.
func reduceFootprint() { debug.SetGCPercent(10) }

// run runs the command and returns its exit status.
func run(argv []string, stdout, stderr io.Writer) int {
	err := execute(argv, stdout, stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage): // the errors are printed already
		fmt.Fprintln(stderr, "Try 'start_server --help' for more information.")
	case errors.Is(err, starter.ErrStartFailed): // likewise
	default:
		fmt.Fprintf(stderr, "start_server: %v\n", err)
	}
	return 1
}

func execute(argv []string, stdout, stderr io.Writer) error {
	if completing() {
		return complete(argv, stdout)
	}
	o, program, err := parse(argv, stderr)
	if err != nil {
		return err
	}
	switch {
	case o.About.Help:
		return writeHelp(stdout)
	case o.About.Version:
		fmt.Fprintln(stdout, version)
		return starter.AnswerUpgradeCheck(stdout, func(argv []string) (starter.Config, error) { return configOf(argv, stderr) })
	case o.Control.Restart || o.Control.Stop || o.Control.Show:
		return o.control(context.Background(), stdout, stderr)
	}
	config, err := o.config(program)
	if err != nil {
		return err
	}
	return starter.Run(context.Background(), config)
}
