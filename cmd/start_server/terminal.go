//go:build !windows

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal tells whether somebody watches who wants a progress line.
func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	return err == nil && os.Getenv("TERM") != "dumb"
}
