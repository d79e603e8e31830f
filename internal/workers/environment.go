package workers

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/start-server/start-server/internal/account"
	"github.com/start-server/start-server/internal/background"
	"github.com/start-server/start-server/internal/copies"
	"github.com/start-server/start-server/internal/envdir"
	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/supervisor"
)

// These variables set options. The superdaemon reads them from the envdir as well (Server::Starter
// 0.35).
const (
	envDirVariable              = "ENVDIR"
	autoRestartVariable         = "ENABLE_AUTO_RESTART"
	autoRestartIntervalVariable = "AUTO_RESTART_INTERVAL"
	killOldDelayVariable        = "KILL_OLD_DELAY"
)

const (
	defaultAutoRestartInterval = 360 * time.Second
	delayWithAutoRestart       = 5 * time.Second
	delayWithSteering          = time.Second // an old worker reads what waits in its socket: it is no other's
)

// readEnvDirTime limits the time for reading the envdir.
const readEnvDirTime = 500 * time.Millisecond

// managerEnv lists variables that are meant for the superdaemon, not for workers (sd_notify(3),
// sd_watchdog_enabled(3), sd_listen_fds(3), another start_server).
var managerEnv = []string{
	"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
	"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID",
	"FDSTORE",
	copies.NumberVariable,
}

// Environment holds the variables that every worker gets, and the settings among them.
type Environment struct {
	base     map[string]string // those of the superdaemon, and its options
	dir      string            // the envdir, "" for none
	reader   *background.Runner
	steered  bool                // each generation has UDP sockets of its own
	settings supervisor.Settings // as last read
	warned   string              // the last warning about them
	report   func(line string)
}

// Options are those that set variables. nil and "" leave them as they are.
type Options struct {
	EnvDir              string
	AutoRestart         bool
	AutoRestartInterval *time.Duration
	KillOldDelay        *time.Duration
	SteerUDP            bool // it changes the default of KillOldDelay
}

// NewEnvironment returns an Environment with the variables of this process, "NAME=value". report is
// called with log lines.
func NewEnvironment(c Options, environ []string, report func(line string)) *Environment {
	base := map[string]string{}
	for _, word := range environ {
		if name, value, ok := strings.Cut(word, "="); ok && !slices.Contains(managerEnv, name) {
			base[name] = value
		}
	}
	if c.EnvDir != "" {
		base[envDirVariable] = c.EnvDir
	}
	if c.AutoRestart {
		base[autoRestartVariable] = "1"
	}
	if c.AutoRestartInterval != nil {
		base[autoRestartIntervalVariable] = lines.Seconds(*c.AutoRestartInterval)
	}
	if c.KillOldDelay != nil {
		base[killOldDelayVariable] = lines.Seconds(*c.KillOldDelay)
	}
	e := &Environment{base: base, dir: base[envDirVariable], steered: c.SteerUDP, report: report}
	if e.dir != "" {
		e.reader = background.New(func() {}) // no need to wake anyone: the next look reads again
	}
	return e
}

// forWorker returns the variables of the next worker, and those that override them. The worker runs
// as user, or as the user of the superdaemon if that is nil. again means that a worker has started
// before: from then on the original passes the default interval as well. An error means that the
// envdir hangs.
func (e *Environment) forWorker(user *account.User, again bool) (vars, overrides map[string]string, err error) {
	base := e.base
	if user != nil {
		base = maps.Clone(base)
		setLogin(base, *user)
	}
	vars, err = e.read(base)
	if errors.Is(err, background.ErrNotAnswering) { // other errors were reported when the settings were read
		return nil, nil, err
	}
	overrides = map[string]string{}
	if e.settings.AutoRestart && again && !isTrue(vars[autoRestartIntervalVariable]) {
		overrides[autoRestartIntervalVariable] = lines.Seconds(defaultAutoRestartInterval)
	}
	return vars, overrides, nil
}

// ForLogCommand returns the environment of the log command: that of the superdaemon with the
// envdir, as in the original. If the envdir cannot be read, it is left out.
func (e *Environment) ForLogCommand() []string {
	vars, _ := e.read(e.base) // the error is reported when the settings are read
	return encode(vars, nil)
}

// setLogin sets the variables that describe a user, as systemd.exec(5) does for User=. A user that
// has only a number has no name and no shell.
func setLogin(vars map[string]string, user account.User) {
	if user.Name == "" {
		vars["HOME"] = "/"
		for _, name := range []string{"USER", "LOGNAME", "SHELL"} {
			delete(vars, name)
		}
		return
	}
	vars["HOME"], vars["SHELL"] = user.Home, user.Shell
	vars["USER"], vars["LOGNAME"] = user.Name, user.Name
}

// Settings reads the settings again, and reports an error in them once.
func (e *Environment) Settings() supervisor.Settings {
	s, err := e.readSettings()
	warning := ""
	if err != nil {
		warning = err.Error()
	}
	if warning != e.warned && warning != "" {
		e.report(warning)
	}
	e.settings, e.warned = s, warning
	return s
}

// ReadsDir reports whether there is an envdir.
func (e *Environment) ReadsDir() bool { return e.dir != "" }

// Close ends the reader of the envdir once its work under way has ended.
func (e *Environment) Close() {
	if e.reader != nil {
		e.reader.Close()
	}
}

// read returns the present variables, base overridden by the envdir. The error names everything in
// the envdir that was skipped. The caller must not change the map.
func (e *Environment) read(base map[string]string) (map[string]string, error) {
	if e.dir == "" {
		return base, nil
	}
	var files map[string]string
	var errs []error
	if !e.reader.Run(func() { files, errs = envdir.Read(e.dir) }, readEnvDirTime) {
		return base, fmt.Errorf("read envdir %s: %w", e.dir, background.ErrNotAnswering)
	}
	vars := maps.Clone(base)
	maps.Copy(vars, files)
	return vars, errors.Join(errs...)
}

// readSettings reads the variables that set options. It names a value that is not a number in the
// error, and uses the number at its beginning or, if there is none, the default.
func (e *Environment) readSettings() (supervisor.Settings, error) {
	vars, err := e.read(e.base)
	if errors.Is(err, background.ErrNotAnswering) {
		return e.settings, err
	}
	on := isTrue(vars[autoRestartVariable])
	interval, err1 := e.number(vars, autoRestartIntervalVariable, defaultAutoRestartInterval)
	if interval == 0 { // the original uses ||=
		interval = defaultAutoRestartInterval
	}
	interval = max(interval, time.Second) // the original looks at the clock once a second
	var delay time.Duration
	switch {
	case on:
		delay = delayWithAutoRestart
	case e.steered:
		delay = delayWithSteering
	}
	delay, err2 := e.number(vars, killOldDelayVariable, delay)
	return supervisor.Settings{MayChange: e.dir != "", AutoRestart: on, AutoRestartInterval: interval, KillOldDelay: delay}, errors.Join(err, err1, err2)
}

// isTrue reports whether a value is true in Perl.
func isTrue(value string) bool { return value != "" && value != "0" }

// number returns a number of seconds as Perl reads it: 0 for an empty value, 1.5 for "1.5s", which
// is an error as well. It returns fallback for a value that does not begin with a number from 0 up.
func (e *Environment) number(vars map[string]string, name string, fallback time.Duration) (time.Duration, error) {
	value, ok := vars[name]
	value = strings.TrimSpace(value)
	if !ok {
		return fallback, nil
	}
	if value == "" {
		return 0, nil
	}
	n, rest := leadingNumber(value)
	if n >= 0 && n <= math.MaxInt32 && rest != value {
		fallback = time.Duration(n*float64(time.Second) + 0.5)
		if rest == "" {
			return fallback, nil
		}
	}
	where := "$" + name
	if vars[name] != e.base[name] {
		where = e.dir + "/" + name
	}
	return fallback, errors.New(lines.InvalidSeconds(where, value, fallback))
}

// leadingNumber splits a decimal number, which may have a fraction and an exponent, off the
// beginning of s. Without one it returns all of s.
func leadingNumber(s string) (n float64, rest string) {
	end := len(s) - len(strings.TrimLeft(s, "0123456789.eE+-"))
	for ; end > 0; end-- {
		if n, err := strconv.ParseFloat(s[:end], 64); err == nil {
			return n, s[end:]
		}
	}
	return 0, s
}

// encode returns variables in the form that execve(2) takes. Those in overrides have priority.
func encode(vars, overrides map[string]string) []string {
	list := make([]string, 0, len(vars)+len(overrides))
	for name, value := range vars {
		if _, ok := overrides[name]; !ok {
			list = append(list, name+"="+value)
		}
	}
	for name, value := range overrides {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}
