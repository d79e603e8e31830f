package starter

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/start-server/start-server/internal/accepting"
	"github.com/start-server/start-server/internal/account"
	"github.com/start-server/start-server/internal/copies"
	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/listening"
	"github.com/start-server/start-server/internal/logfile"
	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/signame"
	"github.com/start-server/start-server/internal/socket"
	"github.com/start-server/start-server/internal/status"
	"github.com/start-server/start-server/internal/steer"
)

// Config configures Run. It has a field for each option in start_server(1). The zero value is not
// usable: start with NewConfig.
type Config struct {
	Program []string // the server and its arguments

	Ports   []string // as given to --port: "80", "[::1]:80", "u443", "127.0.0.1:80=5"
	Paths   []string // of unix sockets
	Backlog int      // connections; 0 is SOMAXCONN

	// SteerUDP gives each generation a socket of its own for every UDP port: a QUIC connection, by its
	// ID, stays with its generation, see listener.ConnectionIDPrefix. Linux only.
	SteerUDP bool `json:",omitempty"`

	PathMode  string // permissions of unix sockets, in octal; "" is 0777
	PathOwner string // "user", "user:group" or ":group" of unix sockets, names or numbers; "" is that of this process

	Dir    string // working directory of the program; "" is that of this process
	EnvDir string // "" is $ENVDIR
	User   string // "user" or "user:group" that the program runs as, names or numbers; "" is that of this process

	Interval      time.Duration // a worker that is alive after this time has started; NewConfig: 1 s
	ReadyTimeout  time.Duration // a worker that is not ready after this time has failed; 0: Interval decides
	AcceptTimeout time.Duration `json:",omitempty"` // one that does not wait for connections after this time has failed; 0: likewise
	KillTimeout   time.Duration // from the signal to stop a worker to SIGKILL; 0: never
	MaxOldWorkers *int          `json:",omitempty"` // old workers that may be left after a restart, the oldest are killed; nil: any number
	MaxAttempts   int           // failed attempts until a restart, or the first start, is given up; 0: never
	StopFirst     bool          // stop the old workers before a new one is started
	StopDelay     time.Duration // between a signal to stop and the signal to the workers
	SignalOnHUP   string        // the signal to old workers after a HUP; NewConfig: "TERM"
	SignalOnTERM  string        // the signal to workers after a TERM; NewConfig: "TERM"

	AutoRestart         bool           // false: $ENABLE_AUTO_RESTART
	AutoRestartInterval *time.Duration // nil: $AUTO_RESTART_INTERVAL, or 360 s
	KillOldDelay        *time.Duration // nil: $KILL_OLD_DELAY, or 5 s with auto restart, 1 s with SteerUDP, else 0

	PIDFile    string // "": none, as for the next three
	StatusFile string
	StatusJSON string
	LogFile    string // a file, or "| command"
	LogPrefix  string // begin each line of the superdaemon itself with the time and this text; "": neither
	Daemonize  bool   // requires LogFile

	Workers int `json:",omitempty"` // processes that a generation consists of; 0: one, without SERVER_STARTER_WORKER

	SocketActivation bool // pass the sockets by sd_listen_fds(3) as well

	// Version is the version of the program that embeds this package, for StatusJSON. It and the
	// fields below are not options.
	Version string `json:"-"`

	// OnEvent is called with each event, in order, from one goroutine. It does not delay the
	// superdaemon: meanwhile events wait in a queue without a limit. Run returns after the last
	// call has returned. Events in the queue are lost if an upgrade replaces the process.
	OnEvent func(Event) `json:"-"`

	// GiveBack makes Run restore, before it returns, what it has taken of the process (see Run);
	// NewConfig: true. Until then the standard output and error that LogFile replaces stay open,
	// and a program that reads them does not see end of file. A command that exits when Run returns
	// sets it to false.
	GiveBack bool `json:"-"`
}

// NewConfig returns a Config for a program, with the default of each option.
func NewConfig(program ...string) Config {
	return Config{Program: program, Interval: time.Second, SignalOnHUP: "TERM", SignalOnTERM: "TERM", GiveBack: true}
}

// Validate returns an error for everything that is wrong, joined.
func (c Config) Validate() error {
	_, hupErr := signame.Parse(c.SignalOnHUP)
	_, termErr := signame.Parse(c.SignalOnTERM)
	errs := []error{
		c.validateProgram(),
		option("signal-on-hup", hupErr),
		option("signal-on-term", termErr),
		notNegative("interval", c.Interval),
		notNegative("ready-timeout", c.ReadyTimeout),
		c.validateAcceptTimeout(),
		notNegative("kill-timeout", c.KillTimeout),
		notNegative("stop-delay", c.StopDelay),
		c.validateAccounts(),
	}
	if c.AutoRestartInterval != nil {
		errs = append(errs, notNegative("auto-restart-interval", *c.AutoRestartInterval))
	}
	if c.KillOldDelay != nil {
		errs = append(errs, notNegative("kill-old-delay", *c.KillOldDelay))
	}
	if c.MaxAttempts < 0 {
		errs = append(errs, fmt.Errorf("--max-attempts=%d: must not be negative", c.MaxAttempts))
	}
	if c.MaxOldWorkers != nil && *c.MaxOldWorkers < 0 {
		errs = append(errs, fmt.Errorf("--max-old-workers=%d: must not be negative", *c.MaxOldWorkers))
	}
	if c.Backlog < 0 {
		errs = append(errs, fmt.Errorf("--backlog=%d: must not be negative", c.Backlog))
	}
	errs = append(errs, c.validateWorkers())
	if command, pipe := logfile.Command(c.LogFile); pipe && command == "" {
		errs = append(errs, fmt.Errorf("--log-file=%q: no command after the bar", c.LogFile))
	}
	if strings.ContainsAny(c.LogPrefix, "\n\x00") {
		errs = append(errs, fmt.Errorf("--log-prefix=%q: must be one line", c.LogPrefix))
	}
	if c.Daemonize && c.LogFile == "" {
		errs = append(errs, errors.New("--daemonize: requires --log-file, since there will be no terminal"))
	}
	return errors.Join(append(errs, c.validateSteering(), c.validateStatusFiles(), c.validateAddresses())...)
}

func (c Config) validateProgram() error {
	if len(c.Program) == 0 {
		return errors.New("server program not specified: start_server [options] -- program [argument ...]")
	}
	for _, word := range append(slices.Clone(c.Program), c.Dir) {
		if strings.ContainsRune(word, 0) {
			return fmt.Errorf("start program: %q contains a NUL byte", word)
		}
	}
	return nil
}

// validateAcceptTimeout returns an error if workers cannot be looked at as asked for.
func (c Config) validateAcceptTimeout() error {
	err := notNegative("accept-timeout", c.AcceptTimeout)
	switch {
	case c.AcceptTimeout <= 0:
	case !accepting.Supported:
		err = fmt.Errorf("--accept-timeout=%s: requires Linux", lines.Seconds(c.AcceptTimeout))
	case c.ReadyTimeout > 0:
		err = fmt.Errorf("--accept-timeout=%s: cannot be used together with --ready-timeout", lines.Seconds(c.AcceptTimeout))
	}
	return err
}

// validateWorkers returns an error if several workers cannot be run as asked for.
func (c Config) validateWorkers() error {
	switch {
	case c.Workers < 0:
		return fmt.Errorf("--workers=%d: must not be negative", c.Workers)
	case c.Workers < 2:
		return nil
	case !process.CanDieWithParent:
		return fmt.Errorf("--workers=%d: requires Linux", c.Workers)
	}
	for _, option := range []struct{ name, signal string }{{"signal-on-hup", c.SignalOnHUP}, {"signal-on-term", c.SignalOnTERM}} {
		if sig, err := signame.Parse(option.signal); err == nil && !copies.CanPassOn(sig) {
			return fmt.Errorf("--%s=%q: cannot be used with --workers", option.name, option.signal)
		}
	}
	return nil
}

// validateSteering returns an error if UDP packets cannot be steered.
func (c Config) validateSteering() error {
	udp := func(spec string) bool {
		p, err := portspec.Parse(spec)
		return err != nil || p.UDP // a wrong one is another error
	}
	switch {
	case !c.SteerUDP:
		return nil
	case !steer.Supported:
		return errors.New("--steer-udp: requires Linux")
	case !slices.ContainsFunc(c.Ports, udp):
		return errors.New("--steer-udp: no UDP port to steer (--port=uPORT)")
	case c.Workers > 1:
		return errors.New("--steer-udp: cannot be used with --workers: the processes of a generation would share its socket")
	}
	return nil
}

// validateStatusFiles returns an error if a status file would replace another file.
func (c Config) validateStatusFiles() error {
	var errs []error
	check := func(name, path string) {
		if err := status.Check(path); path != "" && err != nil {
			errs = append(errs, fmt.Errorf("--%s=%q: %w", name, path, err))
		}
	}
	check("status-file", c.StatusFile)
	check("status-json", c.StatusJSON)
	distinct := func(option, path, other, otherPath string) {
		if path != "" && otherPath != "" && samePath(path, otherPath) {
			errs = append(errs, fmt.Errorf("--%s=%q: the same file as --%s", option, path, other))
		}
	}
	distinct("status-json", c.StatusJSON, "status-file", c.StatusFile)
	distinct("status-json", c.StatusJSON, "pid-file", c.PIDFile)
	distinct("status-json", c.StatusJSON, "log-file", c.LogFile)
	distinct("status-file", c.StatusFile, "pid-file", c.PIDFile)
	distinct("status-file", c.StatusFile, "log-file", c.LogFile)
	return errors.Join(errs...)
}

// samePath reports whether two paths name the same file, which need not exist.
func samePath(a, b string) bool {
	a, errA := filepath.Abs(a)
	b, errB := filepath.Abs(b)
	if errA == nil && errB == nil && a == b {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

func (c Config) validateAccounts() error {
	_, accessErr := c.access(socket.DefaultAccess)
	user, userErr := c.user()
	if userErr == nil && user != nil {
		userErr = process.CanChangeUser()
	}
	if userErr != nil {
		userErr = fmt.Errorf("--user=%q: %w", c.User, userErr)
	}
	return errors.Join(accessErr, userErr)
}

// access returns the mode and the owner of a unix socket, those of access if no option sets them.
func (c Config) access(access socket.Access) (socket.Access, error) {
	var modeErr, ownerErr error
	if c.PathMode != "" {
		mode, err := strconv.ParseUint(c.PathMode, 8, 32)
		if access.Mode = uint32(mode); err != nil || mode > 0o777 {
			modeErr = fmt.Errorf("--path-mode=%q: not an octal number from 0 to 0777", c.PathMode)
		}
	}
	if c.PathOwner != "" {
		if access.Owner, ownerErr = account.System.Owner(c.PathOwner); ownerErr != nil {
			ownerErr = fmt.Errorf("--path-owner=%q: %w", c.PathOwner, ownerErr)
		}
	}
	return access, errors.Join(modeErr, ownerErr)
}

// user returns the account that the workers run as, or nil for that of this process.
func (c Config) user() (*account.User, error) {
	if c.User == "" {
		return nil, nil
	}
	user, err := account.System.User(c.User)
	return &user, err
}

func (c Config) validateAddresses() error {
	var errs []error
	addresses, descriptors := map[string]bool{}, map[int]bool{}
	for _, spec := range c.Ports {
		p, err := portspec.Parse(spec)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		address := listening.Address(p)
		if p.Port != 0 && addresses[address] {
			errs = append(errs, fmt.Errorf("--port=%q: the same address twice", spec))
		}
		addresses[address] = true
		if p.FD >= 0 && descriptors[p.FD] {
			errs = append(errs, fmt.Errorf("--port=%q: the same descriptor twice", spec))
		}
		descriptors[p.FD] = true
	}
	for _, path := range c.Paths {
		if path == "" || strings.ContainsAny(path, ";\n\x00") {
			errs = append(errs, fmt.Errorf("--path=%q: a path must not be empty or contain a semicolon, newline or NUL byte", path))
		}
		if clean := filepath.Clean(path); addresses[clean] {
			errs = append(errs, fmt.Errorf("--path=%q: the same address twice", path))
		} else {
			addresses[clean] = true
		}
	}
	return errors.Join(errs...)
}

func option(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--%s: %w", name, err)
}

func notNegative(name string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("--%s=%s: must not be negative", name, lines.Seconds(d))
	}
	return nil
}
