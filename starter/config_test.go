package starter

import (
	"strings"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/steer"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	notSteered, steered := "--steer-udp: no UDP port", []string(nil)
	severalSteered := []string{"--steer-udp: cannot be used with --workers"}
	if !steer.Supported {
		notSteered = "--steer-udp: requires Linux"
		steered = []string{notSteered}
		severalSteered = []string{"--workers=2: requires Linux", notSteered}
	}
	negative := -time.Second
	for name, test := range map[string]struct {
		change func(*Config)
		wrong  []string // the lines of the error; nil for none
	}{
		"the defaults": {func(*Config) {}, nil},
		"everything": {func(c *Config) {
			day := 24 * time.Hour
			c.Ports = []string{"80", "127.0.0.1:18080", "127.0.0.11:8080", "127.0.0.1:80", "[::1]:80", "u80", "0", "0", "localhost:443=3", "444=4"}
			c.Paths = []string{"/run/a", "/run/b"}
			c.Backlog, c.Interval, c.ReadyTimeout, c.KillTimeout = 5, 0, day, day
			c.SignalOnHUP, c.SignalOnTERM, c.AutoRestartInterval, c.KillOldDelay = "usr1", "3", &day, &day
			c.LogFile, c.Daemonize = "| cat", true
			c.PathMode, c.PathOwner = "0660", "0:0"
		}, nil},
		"no program":     {func(c *Config) { c.Program = nil }, []string{"server program not specified"}},
		"signals":        {func(c *Config) { c.SignalOnHUP, c.SignalOnTERM = "HUPP", "0" }, []string{`--signal-on-hup: unknown signal "HUPP"`, `--signal-on-term: unknown signal "0"`}},
		"negative times": {func(c *Config) { c.Interval, c.ReadyTimeout, c.KillTimeout = -time.Second, -time.Second, -time.Second }, []string{"--interval=-1: ", "--ready-timeout=-1: ", "--kill-timeout=-1: "}},
		"more of them":   {func(c *Config) { c.AutoRestartInterval, c.KillOldDelay = &negative, &negative }, []string{"--auto-restart-interval=-1: ", "--kill-old-delay=-1: "}},
		"accounts": {func(c *Config) { c.PathMode, c.PathOwner, c.User = "0888", "no such", "no such:1" },
			[]string{`--path-mode="0888": not an octal number`, `--path-owner="no such": no user "no such" in`, `--user="no such:1": no user "no such" in`}},
		"too open a mode":      {func(c *Config) { c.PathMode = "1777" }, []string{`--path-mode="1777": not an octal number from 0 to 0777`}},
		"no owner":             {func(c *Config) { c.PathOwner = ":" }, []string{`--path-owner=":": no group ""`}},
		"stop delay":           {func(c *Config) { c.StopDelay = -time.Second }, []string{`--stop-delay=-1: must not be negative`}},
		"nothing to steer":     {func(c *Config) { c.SteerUDP, c.Ports = true, []string{"80"} }, []string{notSteered}},
		"steered":              {func(c *Config) { c.SteerUDP, c.Ports = true, []string{"80", "u80"} }, steered},
		"steered to several":   {func(c *Config) { c.SteerUDP, c.Ports, c.Workers = true, []string{"u80"}, 2 }, severalSteered},
		"backlog":              {func(c *Config) { c.Backlog = -1 }, []string{"--backlog=-1: "}},
		"no log command":       {func(c *Config) { c.LogFile = " | " }, []string{`--log-file=" | ": no command`}},
		"no log":               {func(c *Config) { c.Daemonize = true }, []string{"--daemonize: requires --log-file"}},
		"no port":              {func(c *Config) { c.Ports = []string{"http", "80"} }, []string{`"http"`}},
		"one port twice":       {func(c *Config) { c.Ports = []string{"80", "0.0.0.0:80"} }, []string{`--port="0.0.0.0:80": the same address twice`}},
		"one IPv6 port twice":  {func(c *Config) { c.Ports = []string{"[::1]:80", "[0:0:0:0:0:0:0:1]:80"} }, []string{`--port="[0:0:0:0:0:0:0:1]:80": the same address twice`}},
		"one descriptor twice": {func(c *Config) { c.Ports = []string{"80=5", "81=5"} }, []string{`--port="81=5": the same descriptor twice`}},
		"bad paths": {func(c *Config) { c.Paths = []string{"", "a;b", "a\nb", "a\x00b"} },
			[]string{`--path="": a path must not be empty`, `--path="a;b": `, `--path="a\nb": `, `--path="a\x00b": `}},
		"a NUL byte":             {func(c *Config) { c.Program = []string{"a", "b\x00"} }, []string{`"b\x00" contains a NUL byte`}},
		"no program, a bad port": {func(c *Config) { c.Program, c.Ports = nil, []string{"bad"} }, []string{"server program not specified", `"bad"`}},
		"one file twice": {func(c *Config) { c.StatusFile, c.PIDFile, c.LogFile = "run/s", "run/./s", "run/s" },
			[]string{`--status-file="run/s": the same file as --pid-file`, `--status-file="run/s": the same file as --log-file`}},
		"one path twice": {func(c *Config) { c.Paths = []string{"/run/a", "/run/./a", "b"} }, []string{`--path="/run/./a": the same address twice`}},
	} {
		c := NewConfig("program")
		test.change(&c)
		err := c.Validate()
		if (err == nil) != (test.wrong == nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err == nil {
			_ = c.rules() // does not panic
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(test.wrong) {
			t.Errorf("%s: %d lines, want %d:\n%v", name, len(lines), len(test.wrong), err)
			continue
		}
		for i, want := range test.wrong {
			if !strings.Contains(lines[i], want) {
				t.Errorf("%s: %q does not contain %q", name, lines[i], want)
			}
		}
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic for an invalid config")
		}
	}()
	c := NewConfig("x")
	c.SignalOnHUP = "nope"
	c.rules()
}
