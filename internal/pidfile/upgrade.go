package pidfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A superdaemon that becomes another executable cannot receive signals for a moment. The
// modification time of its pid file shows that: it is the epoch from before that moment until
// signals are received again, and then the time of day.

// BeginUpgrade marks the file: signals sent from now on may be lost, until EndUpgrade.
func (f *File) BeginUpgrade() error { return f.mark(unix.Timeval{}) }

// EndUpgrade marks the file: the superdaemon receives signals again.
func (f *File) EndUpgrade() error { return f.mark(unix.NsecToTimeval(time.Now().UnixNano())) }

func (f *File) mark(t unix.Timeval) error {
	if err := unix.Futimes(f.descriptor, []unix.Timeval{t, t}); err != nil {
		return fmt.Errorf("mark pid file %q: %w", f.path, err)
	}
	return nil
}

// modified returns the modification time. It differs before and after an upgrade.
func (f *File) modified() (unix.Timespec, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.descriptor, &st); err != nil {
		return unix.Timespec{}, fmt.Errorf("stat pid file %q: %w", f.path, err)
	}
	return st.Mtim, nil
}

// upgrading reports whether the superdaemon is in the middle of an upgrade, or has ended there.
func (f *File) upgrading() bool {
	t, err := f.modified()
	return err == nil && t == unix.Timespec{}
}

// ErrEnded is returned by Signal if the superdaemon has ended in the middle of an upgrade.
var ErrEnded = errors.New("start_server ended during an upgrade")

// Signal sends a signal to the superdaemon. If an upgrade, in which it may have been lost, was
// under way, Signal sends it again afterwards.
func (p *Process) Signal(ctx context.Context, sig syscall.Signal) error {
	return p.Undisturbed(ctx, func() error { return unix.Kill(p.PID, sig) })
}

// Undisturbed calls do while no upgrade is under way. If one has begun meanwhile, it calls do again
// afterwards. It returns the error of do.
func (p *Process) Undisturbed(ctx context.Context, do func() error) error {
	for {
		if err := p.settle(ctx); err != nil {
			return err
		}
		before, err := p.file.modified()
		if err != nil {
			return err
		}
		err = do()
		after, statErr := p.file.modified()
		if statErr != nil || after == before && !p.file.upgrading() {
			return cmp.Or(statErr, err)
		}
		if gone, goneErr := p.Gone(); gone || goneErr != nil { // it has received the signal
			return cmp.Or(goneErr, err)
		}
	}
}

// settle waits until no upgrade is under way.
func (p *Process) settle(ctx context.Context) error {
	tick := time.NewTicker(lockPause)
	defer tick.Stop()
	for p.file.upgrading() {
		if gone, err := p.Gone(); gone || err != nil {
			return errors.Join(ErrEnded, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
