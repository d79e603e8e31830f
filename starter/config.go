package starter

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/start-server/start-server/internal/account"
	"github.com/start-server/start-server/internal/logfile"
	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/socket"
	"github.com/start-server/start-server/internal/statusfile"
)

// Config is what a superdaemon can be asked for: one field for each option that
// start_server(1) describes. Begin with NewConfig, for not every default is zero.
type Config struct {
	Program []string // the server and its arguments

	Ports   []string // as given to --port: "80", "[::1]:80", "u443", "127.0.0.1:80=5"
	Paths   []string // of unix sockets
	Backlog int      // connections; 0 is SOMAXCONN

	PathMode  string // permissions of unix sockets, in octal; "" is 0777
	PathOwner string // "user", "user:group" or ":group" of unix sockets, names or numbers; "" is that of this process

	Dir    string // where the program runs; "" is here
	EnvDir string // "" is $ENVDIR
	User   string // "user" or "user:group" that the program runs as, names or numbers; "" is that of this process

	Interval     time.Duration // a worker that is alive after so long has started; NewConfig: 1 s
	ReadyTimeout time.Duration // a worker that is not ready after so long has failed; 0: the interval decides
	KillTimeout  time.Duration // a worker that lives so long after it was told to stop gets KILL; 0: never
	MaxAttempts  int           // a restart, or the first start, is given up after so many failed attempts; 0: never
	StopFirst    bool          // old workers are stopped before a new one is started
	StopDelay    time.Duration // between a signal to stop and the signal to the workers
	SignalOnHUP  string        // what old workers get after a HUP; NewConfig: "TERM"
	SignalOnTERM string        // what workers get after a TERM; NewConfig: "TERM"

	AutoRestart         bool           // false is $ENABLE_AUTO_RESTART
	AutoRestartInterval *time.Duration // nil is $AUTO_RESTART_INTERVAL, or 360 s
	KillOldDelay        *time.Duration // nil is $KILL_OLD_DELAY, or 5 s with auto restart, else 0

	PIDFile    string // "" is none, as below
	StatusFile string
	StatusJSON string
	LogFile    string // a file, or "| command"
	LogPrefix  string // each line of the superdaemon's own begins with the time and this text; "" for neither
	Daemonize  bool   // needs LogFile

	// What the program decides that embeds this package. None of it is an option.

	Version string `json:"-"` // of that program, for StatusJSON

	// OnEvent is called with each event, in order, from one goroutine. It never delays the superdaemon:
	// events wait in a queue without a limit while it runs. Run returns after the last call has returned.
	// Events that wait when the process is replaced by an upgrade are lost.
	OnEvent func(Event) `json:"-"`

	// GiveBack makes Run give back what it has taken of the process when it returns (see Run); NewConfig:
	// true. Until then the standard output and error that LogFile has replaced stay open: a program that
	// reads them sees no end. A command that exits when Run returns sets it to false.
	GiveBack bool `json:"-"`

	SocketActivation bool // hand the sockets on by sd_listen_fds(3) as well
}

// NewConfig is a Config with the defaults for running a program.
func NewConfig(program ...string) Config {
	return Config{Program: program, Interval: time.Second, SignalOnHUP: "TERM", SignalOnTERM: "TERM", GiveBack: true}
}

// Validate names everything that is wrong, joined in one error.
func (c Config) Validate() error {
	if len(c.Program) == 0 {
		return errors.New("server program not specified: start_server [options] -- program [argument ...]")
	}
	_, hupErr := process.ParseSignal(c.SignalOnHUP)
	_, termErr := process.ParseSignal(c.SignalOnTERM)
	errs := []error{
		option("signal-on-hup", hupErr),
		option("signal-on-term", termErr),
		notNegative("interval", c.Interval),
		notNegative("ready-timeout", c.ReadyTimeout),
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
	if c.Backlog < 0 {
		errs = append(errs, fmt.Errorf("--backlog=%d: must not be negative", c.Backlog))
	}
	if command, pipe := logfile.Command(c.LogFile); pipe && command == "" {
		errs = append(errs, fmt.Errorf("--log-file=%q: no command after the bar", c.LogFile))
	}
	if strings.ContainsAny(c.LogPrefix, "\n\x00") {
		errs = append(errs, fmt.Errorf("--log-prefix=%q: must be one line", c.LogPrefix))
	}
	if c.Daemonize && c.LogFile == "" {
		errs = append(errs, errors.New("--daemonize: --log-file must be given as well, for there will be no terminal"))
	}
	return errors.Join(append(errs, c.validateStatusFiles(), c.validateAddresses())...)
}

// validateStatusFiles finds status files that would replace something else.
func (c Config) validateStatusFiles() error {
	var errs []error
	check := func(name, path string) {
		if err := statusfile.Check(path); path != "" && err != nil {
			errs = append(errs, fmt.Errorf("--%s=%q: %w", name, path, err))
		}
	}
	check("status-file", c.StatusFile)
	check("status-json", c.StatusJSON)
	distinct := func(name, path string) {
		if c.StatusJSON != "" && path != "" && samePath(c.StatusJSON, path) {
			errs = append(errs, fmt.Errorf("--status-json=%q: the same file as --%s", c.StatusJSON, name))
		}
	}
	distinct("status-file", c.StatusFile)
	distinct("pid-file", c.PIDFile)
	distinct("log-file", c.LogFile)
	return errors.Join(errs...)
}

// samePath tells whether two paths name one file, which need not exist.
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
	_, accessErr := c.access()
	user, userErr := c.user()
	if userErr == nil && user != nil {
		userErr = process.CanChangeUser()
	}
	if userErr != nil {
		userErr = fmt.Errorf("--user=%q: %w", c.User, userErr)
	}
	return errors.Join(accessErr, userErr)
}

// access is who can connect to the unix sockets.
func (c Config) access() (socket.Access, error) {
	access := socket.DefaultAccess
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

// user is the account that the workers run as, nil for that of this process.
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
		address := fmt.Sprint(p.UDP, " ", cmp.Or(p.Host, "0.0.0.0"), " ", p.Port)
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
			errs = append(errs, fmt.Errorf("--path=%q: an empty path, or one with a semicolon, newline or NUL, cannot be told to the worker", path))
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
		return fmt.Errorf("--%s=%s: must not be negative", name, seconds(d))
	}
	return nil
}
