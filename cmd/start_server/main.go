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

	_ "github.com/start-server/start-server/cmd/start_server/internal/oneprocessor"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/starter"
)

func main() {
	time.AfterFunc(time.Second, reduceFootprint)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// reduceFootprint is for a process that works a moment at a time, next to servers that need the
// memory. Before the server is up it would only delay that.
func reduceFootprint() { debug.SetGCPercent(10) }

// run is the command: it returns the exit status.
func run(argv []string, stdout, stderr io.Writer) int {
	err := execute(argv, stdout, stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage): // told already
		fmt.Fprintln(stderr, "Try 'start_server --help' for more information.")
	case errors.Is(err, starter.ErrStartFailed): // told already
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
	case o.Control.Restart:
		control, err := o.control(stderr)
		if err != nil {
			return err
		}
		return control.Restart(context.Background())
	case o.Control.Stop:
		control, err := o.control(stderr)
		if err != nil {
			return err
		}
		return control.Stop(context.Background(), stderr)
	}
	config, err := o.config(program)
	if err != nil {
		return err
	}
	signals.Keep() // it ends with Run: a signal at the last moment must not change the exit status
	return starter.Run(context.Background(), config)
}
