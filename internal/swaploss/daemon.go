package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// daemon is a running start_server.
type daemon struct {
	cmd   *exec.Cmd
	lines chan string // of the workers
	log   bytes.Buffer
}

func start(ctx context.Context, binary string, r round, dir string) (*daemon, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	socket := "--port=127.0.0.1:0"
	if r.network == "unix" {
		socket = "--path=" + filepath.Join(dir, "sock")
	}
	d := &daemon{lines: make(chan string, 100)}
	args := []string{socket, "--interval=0"}
	if r.signal != 0 {
		args = append(args, "--signal-on-hup="+strings.TrimPrefix(unix.SignalName(r.signal), "SIG"))
	}
	args = append(args, "--", self, "-worker", r.worker, "-protocol", r.protocol, "-delay", r.delay.String(), "-signal", strconv.Itoa(int(r.signal)))
	d.cmd = exec.Command(binary, args...)
	d.cmd.Stderr = &d.log
	// Not StdoutPipe: Wait would close it before the output of the last worker is read.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	d.cmd.Stdout = write
	// Not to be stopped by Ctrl-C: this program stops the superdaemon at the end of the round.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = d.cmd.Start()
	write.Close()
	if err != nil {
		read.Close()
		return nil, err
	}
	go func() {
		defer read.Close()
		defer close(d.lines)
		for s := bufio.NewScanner(read); s.Scan(); {
			d.lines <- s.Text()
		}
	}()
	return d, nil
}

// serving describes a worker that serves.
type serving struct {
	generation, pid int
	address         string
}

// serving waits until a newer generation serves.
func (d *daemon) serving(ctx context.Context, than int) (s serving, err error) {
	err = d.await(ctx, func(line string) bool {
		_, err := fmt.Sscanf(line, servingLine, &s.generation, &s.pid, &s.address)
		return err == nil && s.generation > than
	})
	return s, err
}

// swap restarts the server and returns the new generation when it serves and the old one has ended.
func (d *daemon) swap(ctx context.Context, old int) (generation int, err error) {
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return old, err
	}
	started, stopped := false, false
	err = d.await(ctx, func(line string) bool {
		var s serving
		if _, err := fmt.Sscanf(line, servingLine, &s.generation, &s.pid, &s.address); err == nil && s.generation > old {
			generation, started = s.generation, true
		}
		stopped = stopped || line == fmt.Sprintf(stoppedLine, old)
		return started && stopped
	})
	return generation, err
}

// await reads lines until one of them is the wanted one.
func (d *daemon) await(ctx context.Context, wanted func(line string) bool) error {
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-d.lines:
			if !ok {
				return errors.New("start_server has ended")
			}
			if wanted(line) {
				return nil
			}
		case <-timeout:
			return errors.New("nothing happens any more")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end stops the superdaemon. The error for a failure, a data race included, contains the log of the
// superdaemon and the workers.
func (d *daemon) end() error {
	d.cmd.Process.Signal(syscall.SIGTERM)
	go func() {
		for range d.lines { // so that workers that still write can end
		}
	}()
	timer := time.AfterFunc(patience, func() { d.cmd.Process.Kill() })
	err := d.cmd.Wait()
	timer.Stop()
	log := d.log.String()
	if err == nil && strings.Contains(log, "DATA RACE") {
		err = errors.New("data race")
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, log)
	}
	return nil
}
