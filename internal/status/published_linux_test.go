package status

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPublished is not parallel: descriptors belong to the process.
func TestPublished(t *testing.T) {
	if _, err := ReadPublished(os.Getpid()); !errors.Is(err, ErrNotPublished) {
		t.Errorf("nothing is published: %v", err)
	}
	// The file of another process, which this one has inherited, is not its own.
	var other, own Published
	other.Write(Report{Superdaemon: Superdaemon{PID: 1}}.Encode())
	defer other.Close()
	report := Report{Superdaemon: Superdaemon{PID: os.Getpid()}}
	for _, phase := range []string{"starting", strings.Repeat("x", 100_000), "running"} {
		report.Superdaemon.Phase = phase
		own.Write(report.Encode())
		if got, err := ReadPublished(os.Getpid()); err != nil || got.Superdaemon.Phase != phase {
			t.Errorf("phase %.20q was read, want %.20q: %v", got.Superdaemon.Phase, phase, err)
		}
	}
	if flags, err := unix.FcntlInt(uintptr(own.fd), unix.F_GETFD, 0); err != nil || flags != unix.FD_CLOEXEC {
		t.Errorf("a worker would inherit the descriptor: %#x, %v", flags, err)
	}
	own.Close()
	if _, err := ReadPublished(os.Getpid()); !errors.Is(err, ErrNotPublished) {
		t.Errorf("after Close: %v", err)
	}
}

// TestPublishedWhole checks that a reader sees whole texts only, while they are replaced by shorter
// and longer ones.
func TestPublishedWhole(t *testing.T) {
	var p Published
	defer p.Close()
	write := func(n int) {
		r := Report{Superdaemon: Superdaemon{PID: os.Getpid()}}
		for i := range 1 + n%100 {
			r.Workers = append(r.Workers, WorkerReport{PID: i, Generation: n})
		}
		p.Write(r.Encode())
	}
	write(0)
	failed := make(chan error)
	go func() {
		defer close(failed)
		for range 500 {
			r, err := ReadPublished(os.Getpid())
			if err == nil && len(r.Workers) != 1+r.Workers[0].Generation%100 {
				err = fmt.Errorf("%d workers of generation %d", len(r.Workers), r.Workers[0].Generation)
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	for n := 1; ; n++ {
		select {
		case err := <-failed:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			write(n * 37)
		}
	}
}
