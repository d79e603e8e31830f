//go:build !windows

// Command start_server is a superdaemon for hot-deploying server programs.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}
