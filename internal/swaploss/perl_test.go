//go:build conformance

package main

import (
	"syscall"
	"testing"
	"time"
)

func TestSignalOnHUPUnderPerl(t *testing.T) { testSignalOnHUP(t, perl) }

const perl = "/usr/bin/start_server" // of Debian's libserver-starter-perl

// Perl's start_server signals all old workers at each HUP, including those that it has signalled
// before.
func TestQuickHUPsUnderPerl(t *testing.T) {
	const clients = 8
	worker := slow
	worker.delay = 3 * time.Second // longer than two swaps, which take a second each
	d, first, finish := worker.begin(t, perl, clients)
	generation := first.generation
	for range 3 {
		d.asked(t, clients)
		for range 2 {
			if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			next, err := d.serving(t.Context(), generation)
			if err != nil {
				t.Fatal(err)
			}
			generation = next.generation
		}
	}
	finish()
	if err := d.end(); err != nil {
		t.Error(err)
	}
}
