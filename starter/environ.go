package starter

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

// errNotAnswering means that a file system hangs.
var errNotAnswering = errors.New("its file system does not answer")

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

// environment holds the variables that every worker gets, and the settings among them.
type environment struct {
	base     map[string]string // those of the superdaemon, and its options
	dir      string            // the envdir, "" for none
	reader   *background.Runner
	steered  bool     // each generation has UDP sockets of its own
	settings settings // as last read
	warned   string   // the last warning about them
	report   func(line string)
}

func newEnvironment(c Config, environ []string, report func(line string)) *environment {
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
		base[autoRestartIntervalVariable] = seconds(*c.AutoRestartInterval)
	}
	if c.KillOldDelay != nil {
		base[killOldDelayVariable] = seconds(*c.KillOldDelay)
	}
	e := &environment{base: base, dir: base[envDirVariable], steered: c.SteerUDP, report: report}
	if e.dir != "" {
		e.reader = background.New(func() {}) // no need to wake the loop: every step reads again
	}
	return e
}

// forWorker returns the variables of the next worker, and those that override them. The worker runs
// as user, or as the user of the superdaemon if that is nil. again means that a worker has started
// before: from then on the original passes the default interval as well. An error means that the
// envdir hangs.
func (e *environment) forWorker(user *account.User, again bool) (vars, overrides map[string]string, err error) {
	base := e.base
	if user != nil {
		base = maps.Clone(base)
		setLogin(base, *user)
	}
	vars, err = e.read(base)
	if errors.Is(err, errNotAnswering) { // other errors were reported when the settings were read
		return nil, nil, err
	}
	overrides = map[string]string{}
	if e.settings.autoRestart && again && !isTrue(vars[autoRestartIntervalVariable]) {
		overrides[autoRestartIntervalVariable] = seconds(defaultAutoRestartInterval)
	}
	return vars, overrides, nil
}

// forLogCommand returns the environment of the log command: that of the superdaemon with the
// envdir, as in the original. If the envdir cannot be read, it is left out.
func (e *environment) forLogCommand() []string {
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

// current reads the settings again, and reports an error in them once.
func (e *environment) current() settings {
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

// runPending has the loop run every second if the envdir can change when the next automatic restart
// is due: each step reads it.
func (e *environment) runPending() time.Duration {
	if e.dir != "" && e.settings.autoRestart {
		return time.Second
	}
	return 0
}

// read returns the present variables, base overridden by the envdir. The error names everything in
// the envdir that was skipped. The caller must not change the map.
func (e *environment) read(base map[string]string) (map[string]string, error) {
	if e.dir == "" {
		return base, nil
	}
	var files map[string]string
	var errs []error
	if !e.reader.Run(func() { files, errs = envdir.Read(e.dir) }, readEnvDirTime) {
		return base, fmt.Errorf("read envdir %s: %w", e.dir, errNotAnswering)
	}
	vars := maps.Clone(base)
	maps.Copy(vars, files)
	return vars, errors.Join(errs...)
}

// readSettings reads the variables that set options. It names a value that is not a number in the
// error, and uses the number at its beginning or, if there is none, the default.
func (e *environment) readSettings() (settings, error) {
	vars, err := e.read(e.base)
	if errors.Is(err, errNotAnswering) {
		return e.settings, err
	}
	on := isTrue(vars[autoRestartVariable])
	interval, err1 := e.seconds(vars, autoRestartIntervalVariable, defaultAutoRestartInterval)
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
	delay, err2 := e.seconds(vars, killOldDelayVariable, delay)
	return settings{autoRestart: on, autoRestartInterval: interval, killOldDelay: delay}, errors.Join(err, err1, err2)
}

// isTrue reports whether a value is true in Perl.
func isTrue(value string) bool { return value != "" && value != "0" }

// seconds returns a number of seconds as Perl reads it: 0 for an empty value, 1.5 for "1.5s", which
// is an error as well. It returns fallback for a value that does not begin with a number from 0 up.
func (e *environment) seconds(vars map[string]string, name string, fallback time.Duration) (time.Duration, error) {
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
	return fallback, errors.New(msgInvalidSeconds(where, value, fallback))
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
