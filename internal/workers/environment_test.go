package workers

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/start-server/start-server/internal/account"
	"github.com/start-server/start-server/internal/supervisor"
)

func TestNewEnvironment(t *testing.T) {
	t.Parallel()
	long := 90 * time.Second
	c := Options{}
	c.EnvDir, c.AutoRestart, c.AutoRestartInterval, c.KillOldDelay = "/env", true, &long, new(time.Duration)
	given := []string{
		"A=1", "B=x=y", "EMPTY=", "=odd", "no equals sign", "KILL_OLD_DELAY=7",
		"NOTIFY_SOCKET=/run/n", "WATCHDOG_USEC=1", "WATCHDOG_PID=1", "LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=x", "LISTEN_PIDFDID=1",
	}
	e := NewEnvironment(c, given, nil)
	want := map[string]string{
		"A": "1", "B": "x=y", "EMPTY": "", "": "odd",
		"ENVDIR": "/env", "ENABLE_AUTO_RESTART": "1", "AUTO_RESTART_INTERVAL": "90", "KILL_OLD_DELAY": "0",
	}
	if diff := cmp.Diff(want, e.base); diff != "" || e.dir != "/env" {
		t.Errorf("envdir %q (-want +got):\n%s", e.dir, diff)
	}
	if e := NewEnvironment(Options{}, []string{"ENVDIR=/there"}, nil); e.dir != "/there" {
		t.Errorf("envdir %q", e.dir)
	}
}

// TestLogin checks that HOME, USER and so on are those of the user that the worker runs as. The
// envdir overrides them, and those of the superdaemon do not change.
func TestLogin(t *testing.T) {
	t.Parallel()
	c := Options{}
	c.EnvDir = t.TempDir()
	given := []string{"A=1", "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash"}
	e := NewEnvironment(c, given, nil)
	login := func(user *account.User) []string {
		vars, overrides, _ := e.forWorker(user, false)
		return slices.DeleteFunc(encode(vars, overrides), func(word string) bool { return strings.HasPrefix(word, "ENVDIR=") })
	}
	app := &account.User{UID: 5, GID: 5, Name: "app", Home: "/srv/app", Shell: "/bin/sh"}
	if diff := cmp.Diff([]string{"A=1", "HOME=/srv/app", "LOGNAME=app", "SHELL=/bin/sh", "USER=app"}, login(app)); diff != "" {
		t.Errorf("a name (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"A=1", "HOME=/"}, login(&account.User{UID: 5, GID: 5})); diff != "" {
		t.Errorf("a number (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(c.EnvDir, "HOME"), []byte("/elsewhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := login(app); !slices.Contains(got, "HOME=/elsewhere") {
		t.Errorf("the envdir is not on top: %q", got)
	}
	if e.base["HOME"] != "/root" || e.base["USER"] != "root" {
		t.Errorf("the variables of the superdaemon are now %q", e.base)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		vars  []string
		want  supervisor.Settings
		wrong []string // parts of the error
	}{
		"nothing":             {nil, settings(false, 360*time.Second, 0), nil},
		"on":                  {[]string{"ENABLE_AUTO_RESTART=1"}, settings(true, 360*time.Second, 5*time.Second), nil},
		"on by a word":        {[]string{"ENABLE_AUTO_RESTART=no"}, settings(true, 360*time.Second, 5*time.Second), nil},
		"off by 0":            {[]string{"ENABLE_AUTO_RESTART=0"}, settings(false, 360*time.Second, 0), nil},
		"off by nothing":      {[]string{"ENABLE_AUTO_RESTART="}, settings(false, 360*time.Second, 0), nil},
		"no delay":            {[]string{"ENABLE_AUTO_RESTART=1", "KILL_OLD_DELAY=0"}, settings(true, 360*time.Second, 0), nil},
		"a delay":             {[]string{"KILL_OLD_DELAY=3"}, settings(false, 360*time.Second, 3*time.Second), nil},
		"spaces":              {[]string{"AUTO_RESTART_INTERVAL= 10 "}, settings(false, 10*time.Second, 0), nil},
		"0 is the default":    {[]string{"AUTO_RESTART_INTERVAL=0"}, settings(false, 360*time.Second, 0), nil},
		"nothing as interval": {[]string{"AUTO_RESTART_INTERVAL="}, settings(false, 360*time.Second, 0), nil},
		"the greatest":        {[]string{"KILL_OLD_DELAY=2147483647"}, settings(false, 360*time.Second, 2147483647*time.Second), nil},
		"fractions":           {[]string{"AUTO_RESTART_INTERVAL=1.5", "KILL_OLD_DELAY=.25"}, settings(false, 1500*time.Millisecond, 250*time.Millisecond), nil},
		"exponent and sign":   {[]string{"AUTO_RESTART_INTERVAL=1e1", "KILL_OLD_DELAY=+2"}, settings(false, 10*time.Second, 2*time.Second), nil},
		"nothing as delay":    {[]string{"ENABLE_AUTO_RESTART=1", "KILL_OLD_DELAY="}, settings(true, 360*time.Second, 0), nil},
		"spaces as delay":     {[]string{"ENABLE_AUTO_RESTART=1", "KILL_OLD_DELAY= "}, settings(true, 360*time.Second, 0), nil},
		"less than a second":  {[]string{"AUTO_RESTART_INTERVAL=1e-9", "KILL_OLD_DELAY=0.0"}, settings(false, time.Second, 0), nil},
		"units": {[]string{"AUTO_RESTART_INTERVAL=90s", "KILL_OLD_DELAY=1.5 s"}, settings(false, 90*time.Second, 1500*time.Millisecond),
			[]string{`invalid $AUTO_RESTART_INTERVAL "90s": not a number of seconds; using 90`, `"1.5 s": not a number of seconds; using 1.5`}},
		"no decimal numbers": {[]string{"AUTO_RESTART_INTERVAL=inf", "KILL_OLD_DELAY=nan"}, settings(false, 360*time.Second, 0), []string{"using 360", "using 0"}},
		"no numbers": {[]string{"AUTO_RESTART_INTERVAL=soon", "KILL_OLD_DELAY=-1"}, settings(false, 360*time.Second, 0),
			[]string{`invalid $AUTO_RESTART_INTERVAL "soon": not a number of seconds; using 360`, `invalid $KILL_OLD_DELAY "-1": not a number of seconds; using 0`}},
		"too great": {[]string{"KILL_OLD_DELAY=2147483648", "ENABLE_AUTO_RESTART=1"}, settings(true, 360*time.Second, 5*time.Second),
			[]string{`"2147483648"`, "using 5"}},
	} {
		got, err := NewEnvironment(Options{}, test.vars, nil).readSettings()
		if got != test.want || (err == nil) != (test.wrong == nil) {
			t.Errorf("%s: %+v, want %+v (%v)", name, got, test.want, err)
		}
		for _, want := range test.wrong {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not contain %q", name, err, want)
			}
		}
	}
}

func TestDelayWithSteering(t *testing.T) {
	t.Parallel()
	c := Options{SteerUDP: true}
	for want, vars := range map[time.Duration][]string{
		time.Second:     nil,
		5 * time.Second: {"ENABLE_AUTO_RESTART=1"},
		0:               {"KILL_OLD_DELAY=0"},
	} {
		if s, err := NewEnvironment(c, vars, nil).readSettings(); s.KillOldDelay != want || err != nil {
			t.Errorf("%v: %s, want %s (%v)", vars, s.KillOldDelay, want, err)
		}
	}
}

func TestSettingsOfEnvDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e := NewEnvironment(Options{}, []string{"ENVDIR=" + dir, "KILL_OLD_DELAY=2", "A=own", "B=own"}, nil)
	write("KILL_OLD_DELAY", "4\n")
	write("A", "envdir\n")
	if s, err := e.readSettings(); s.KillOldDelay != 4*time.Second || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
	vars, err := e.read(e.base)
	if vars["A"] != "envdir" || vars["B"] != "own" || err != nil || e.base["A"] != "own" {
		t.Errorf("%v, %v", vars, err)
	}
	write("KILL_OLD_DELAY", "often\n")
	write("C=D", "x\n")
	if s, err := e.readSettings(); s.KillOldDelay != 0 || !strings.Contains(err.Error(), "invalid "+dir+`/KILL_OLD_DELAY "often"`) || !strings.Contains(err.Error(), "C=D") {
		t.Errorf("%+v, %v", s, err)
	}
	if err := os.Remove(filepath.Join(dir, "KILL_OLD_DELAY")); err != nil {
		t.Fatal(err)
	}
	if s, _ := e.readSettings(); s.KillOldDelay != 2*time.Second {
		t.Errorf("after the file was removed: %+v", s)
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	got := encode(map[string]string{"A": "1", "B": "2"}, map[string]string{"B": "3", "C": ""})
	if want := []string{"A=1", "B=3", "C="}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func settings(autoRestart bool, interval, delay time.Duration) supervisor.Settings {
	return supervisor.Settings{AutoRestart: autoRestart, AutoRestartInterval: interval, KillOldDelay: delay}
}
