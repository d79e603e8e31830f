package starter

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/output"
	"github.com/start-server/start-server/internal/upgrade"
)

// options is the Config in the state of the first release.
func options() Config {
	interval := 10 * time.Second
	c := NewConfig("worker", "--verbose")
	c.Ports, c.Paths = []string{"80=5"}, []string{"/run/app.sock"}
	c.AutoRestart, c.AutoRestartInterval = true, &interval
	c.PIDFile, c.StatusFile, c.LogFile, c.Daemonize = "pid", "status", "| cat", true
	c.ReadyTimeout, c.KillTimeout = time.Minute, 30*time.Second
	return c
}

// firstRelease returns the state that release 1.0 writes. The file never changes: such superdaemons
// are running.
func firstRelease(t *testing.T) *upgrade.State {
	t.Helper()
	text, err := os.ReadFile("../internal/upgrade/testdata/upgrade-state-1.json")
	s := &upgrade.State{}
	if err := errors.Join(err, json.Unmarshal(text, s)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContinues(t *testing.T) {
	t.Parallel()
	if s := firstRelease(t); !options().continues(s) {
		t.Errorf("the state of the first release is not compatible with its options:\n%s", s.Config)
	}
}

func TestAnswer(t *testing.T) {
	same := func([]string) (Config, error) { return options(), nil }
	changed := func(change func(*Config)) func([]string) (Config, error) {
		return func([]string) (Config, error) {
			c := options()
			change(&c)
			return c, nil
		}
	}
	for name, test := range map[string]struct {
		config func([]string) (Config, error)
		spoil  func(*upgrade.State)
		err    string
	}{
		"the same":         {config: same},
		"a new option":     {config: changed(func(c *Config) { c.Backlog = 5 }), spoil: without("Backlog")},
		"another option":   {config: changed(func(c *Config) { c.Interval++ }), err: "mean something else"},
		"one port less":    {config: changed(func(c *Config) { c.Ports = nil }), err: "mean something else"},
		"another interval": {config: changed(func(c *Config) { *c.AutoRestartInterval++ }), err: "mean something else"},
		"a removed option": {config: same, err: "mean something else",
			spoil: func(s *upgrade.State) { s.Config = append([]byte(`{"Gone":1,`), s.Config[1:]...) }},
		"invalid":           {config: changed(func(c *Config) { c.Interval = -1 }), err: "--interval"},
		"an unknown option": {config: func([]string) (Config, error) { return Config{}, errors.New("unknown option") }, err: "unknown option"},
		"no pid file":       {config: same, spoil: func(s *upgrade.State) { s.PIDFile = -1 }, err: "mean something else"},
		"no log":            {config: same, spoil: func(s *upgrade.State) { s.Log = output.State{} }, err: "mean something else"},
		"another version":   {config: same, spoil: func(s *upgrade.State) { s.Version = 2 }, err: "version 2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := firstRelease(t)
			if test.spoil != nil {
				test.spoil(s)
			}
			probe(t, s)
			var answer strings.Builder
			err := AnswerUpgradeCheck(&answer, test.config)
			if test.err == "" && (err != nil || answer.String() != "compatible start_server, state version 1\n") || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("answer %q, %v", answer.String(), err)
			}
			if test.err != "" && answer.Len() > 0 {
				t.Errorf("answer %q", answer.String())
			}
		})
	}
	if err := AnswerUpgradeCheck(nil, nil); err != nil {
		t.Errorf("not a candidate: %v", err)
	}
}

// without removes an option from the state, as if the previous superdaemon did not have it.
func without(option string) func(*upgrade.State) {
	return func(s *upgrade.State) {
		var fields map[string]json.RawMessage
		_ = json.Unmarshal(s.Config, &fields)
		delete(fields, option)
		s.Config, _ = json.Marshal(fields)
	}
}

// probe makes this process a candidate that is given a state.
func probe(t *testing.T, s *upgrade.State) {
	t.Helper()
	text, err := json.Marshal(s)
	path := filepath.Join(t.TempDir(), "state")
	if err := errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) // AnswerUpgradeCheck closes it
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("START_SERVER_PROBE", strconv.Itoa(fd))
}
