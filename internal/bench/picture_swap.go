//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/start-server/start-server/internal/bench/eventlog"
)

// swap is how a new worker takes the place of the old one, whatever has caused it.
type swap struct {
	picture
	main, ready    time.Duration // of the new worker
	term, exit     time.Duration // of the old worker
	oldPID, newPID int
}

// measureSwap has 16 clients ask a worker that takes a while to start and to answer. In the middle
// cause is called, which makes a new worker start.
func measureSwap(subject string, w workers, cause func(*superdaemon) error) (*swap, error) {
	result := &swap{picture: newPicture()}
	s, err := start(subject, []string{"--path=sock", "--ready-timeout=10"}, []string{w.web}, result.environ()...)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	first, err := s.await(eventlog.Entry{Name: "ready", Generation: 1})
	if err != nil {
		return nil, err
	}
	stop := result.ask("unix", filepath.Join(s.dir, "sock"))
	time.Sleep(400 * time.Millisecond) // what is seen before the swap
	result.zero = eventlog.Now()
	result.from = result.zero - 250*time.Millisecond
	if err := cause(s); err != nil {
		return nil, errors.Join(err, stop())
	}
	events, err := s.await(eventlog.Entry{Name: "main", Generation: 2}, eventlog.Entry{Name: "ready", Generation: 2},
		eventlog.Entry{Name: "TERM", Generation: 1}, eventlog.Entry{Name: "exit", Generation: 1})
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	time.Sleep(250 * time.Millisecond) // and after it
	result.to, result.oldPID, result.newPID = eventlog.Now(), first[0].PID, events[0].PID
	result.main, result.ready, result.term, result.exit = events[0].At, events[1].At, events[2].At, events[3].At
	return result, stop()
}

// draw adds the workers, and what happened to them since began, when the new one was to be started.
func (s *swap) draw(b *bytes.Buffer, began time.Duration) {
	s.lane(b, 120, "generation 1", strconv.Itoa(s.oldPID), segment{"old", s.from, s.term}, segment{"leaving", s.term, s.exit})
	s.lane(b, 200, "generation 2", strconv.Itoa(s.newPID), segment{"starting", s.main, s.ready}, segment{"new", s.ready, s.to})
	s.histogram(b, 120, 1, "old")
	s.histogram(b, 200, 2, "new")
	s.event(b, 34, s.main, fmt.Sprintf("main +%s ms", ms(s.main-began)), "start")
	s.event(b, 20, s.ready, fmt.Sprintf("READY=1 +%s", ms(s.ready-began)), "end")
	s.event(b, 34, s.term, fmt.Sprintf("TERM +%s", ms(s.term-began)), "start")
	s.event(b, 20, s.exit, fmt.Sprintf("old gone +%s", ms(s.exit-began)), "start")
}

// drawRestart measures what a HUP does and draws it into the file.
func drawRestart(path, subject string, w workers) error {
	var pid int
	s, err := measureSwap(subject, w, func(s *superdaemon) error {
		pid = s.cmd.Process.Pid
		_, err := s.hup()
		return err
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, s.svg("A restart", "HUP", func(b *bytes.Buffer) {
		s.lane(b, 60, "start_server", strconv.Itoa(pid), segment{"super", s.from, s.to})
		s.event(b, 20, s.zero, "HUP", "end")
		s.draw(b, s.zero)
	}), 0o644)
}

// drawRecovery measures what happens when the superdaemon is killed and executed again, and draws
// it into the file.
func drawRecovery(path, subject string, w workers) error {
	var killed, again int
	var executed time.Duration
	s, err := measureSwap(subject, w, func(s *superdaemon) error {
		killed = s.cmd.Process.Pid
		if err := s.kill(); err != nil {
			return err
		}
		time.Sleep(300 * time.Millisecond) // until an operator, or a service manager, starts it again
		err := s.execute()
		again, executed = s.cmd.Process.Pid, s.began
		return err
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, s.svg("A superdaemon is killed and started again", "kill -9", func(b *bytes.Buffer) {
		s.lane(b, 60, "start_server", fmt.Sprintf("%d, %d", killed, again), segment{"super", s.from, s.zero}, segment{"super", executed, s.to})
		s.event(b, 20, s.zero, "kill -9", "end")
		s.event(b, 20, executed, "the same command again", "end")
		s.draw(b, executed)
	}), 0o644)
}
