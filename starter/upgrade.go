package starter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/start-server/start-server/internal/background"
	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/logfile"
	"github.com/start-server/start-server/internal/output"
	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/upgrade"
)

// AnswerUpgradeCheck has to be called by the --version of a program that calls Run. If this process
// is the candidate of an upgrade, it checks that this version can continue from the state of the
// running superdaemon and gives the command line the same meaning, and writes the answer to w.
// Otherwise it does nothing. config has to return the Config for a command line.
func AnswerUpgradeCheck(w io.Writer, config func(argv []string) (Config, error)) error {
	s, err := upgrade.ToCheck()
	if s == nil || err != nil {
		return err
	}
	c, err := config(s.Args)
	if err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	if !c.continues(s) {
		return fmt.Errorf("upgrade: the options mean something else now: %q", s.Args)
	}
	return upgrade.Answer(w)
}

// continues reports whether c equals the Config of the previous superdaemon, and its state has the
// descriptors that c needs. Fields that the previous superdaemon did not have are ignored.
func (c Config) continues(s *upgrade.State) bool {
	known := Config{}
	_ = json.Unmarshal(c.encode(), &known)
	decoder := json.NewDecoder(bytes.NewReader(s.Config))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&known); err != nil {
		return false
	}
	_, piped := logfile.Command(c.LogFile)
	return bytes.Equal(known.encode(), c.encode()) && piped == s.Log.Piped() && (c.PIDFile != "") == (s.PIDFile >= 0)
}

// encode writes a Config as JSON.
func (c Config) encode() json.RawMessage {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // cannot happen: it consists of strings and numbers
	}
	return text
}

// FinishUpgrade becomes an executable that has been checked. It returns false if none has been, and
// true if that has failed.
func (d *superdaemon) FinishUpgrade() bool { return d.upgrade.Finish(d.become) }

// become replaces this process. It returns only if that fails, and then everything is as before.
func (d *superdaemon) become(file int) error {
	d.output.Drain(background.Patience)
	s := d.saveState()
	s.Notices = d.workers.Pause()
	err := s.Execute(file, d.markUpgrade, d.loop.received)
	d.workers.Unpause()
	d.watchCandidate()
	d.loop.step(func() { d.loop.resume(s.Signals, s.Notices) })
	return err
}

// markUpgrade marks the pid file, so that --restart and --stop know whether signals are received.
// An error is logged and does not stop the upgrade.
func (d *superdaemon) markUpgrade(begin bool) {
	if d.files.pid == nil {
		return
	}
	mark := d.files.pid.EndUpgrade
	if begin {
		mark = d.files.pid.BeginUpgrade
	}
	if err := mark(); err != nil {
		d.Log(err.Error())
	}
}

// watchCandidate continues to look whether the candidate waits for connections.
func (d *superdaemon) watchCandidate() {
	if c := d.loop.Candidate; c != nil && !c.Dead && c.Unseen == "" {
		d.workers.Watch(c.PID)
	}
}

// saveState returns the state that crosses an upgrade.
func (d *superdaemon) saveState() *upgrade.State {
	s := &upgrade.State{
		Version:     upgrade.Version,
		Args:        os.Args[1:],
		Config:      d.config.encode(),
		Executable:  d.upgrade.Executable,
		State:       d.loop.State,
		Now:         time.Since(d.loop.epoch),
		SocketState: d.sockets.State(),
		WorkerState: d.workers.State(),
		QueueState:  d.manager.State(),
		Log:         d.output.State(),
		Files:       upgrade.Files{PIDFile: -1},
	}
	if d.files.pid != nil {
		s.PIDFile = d.files.pid.Descriptor()
	}
	s.StatusWritten, s.StatusPending = d.files.status.State()
	return s
}

// resume continues from the state of the previous superdaemon, whose files and sockets are open.
func (d *superdaemon) resume(s *upgrade.State) {
	s.Adopt()
	d.output = output.Resume(d.outputOptions(false), s.Log)
	if s.PIDFile >= 0 {
		d.files.pid = pidfile.Adopt(d.config.PIDFile, s.PIDFile)
	}
	d.loop.Resume(s.State, s.Now)
	d.workers.Resume(s.WorkerState)
	d.StepDone() // before the upgrade ends: --restart and --show read the status then
	d.markUpgrade(false)
	d.loop.epoch = time.Now().Add(-s.Now)
	d.loop.first = func() { d.loop.resume(s.Signals, s.Notices) }
	d.upgrade.Executable = s.Executable
	d.sockets.Resume(s.SocketState)
	d.files.status.Resume(s.StatusWritten, s.StatusPending, encodeStatus(d.loop.StartedWorkers()))
	d.manager.Resume(s.QueueState)
	d.watchCandidate()
	d.events.Add(Upgraded{})
	generation := s.State.Generation
	if serving := d.loop.Serving(); serving != nil {
		generation = serving.Generation
	}
	d.Log(lines.Upgraded(os.Getpid(), generation))
}
