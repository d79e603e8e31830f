//go:build !windows

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"time"

	"github.com/jessevdk/go-flags"

	"github.com/start-server/start-server/internal/getopt"
	"github.com/start-server/start-server/starter"
)

// version is the version of this program, which behaves like Server::Starter 0.35.
const version = "1.0.0"

// options holds all options, in the sections of --help. Within a section those of the original come
// first, in its order. The others are marked no-abbrev: they take no part in abbreviation, so that
// abbreviations of the original keep their meaning.
type options struct {
	Sockets   socketOptions    `group:"Sockets"`
	Workers   workerOptions    `group:"Starting and stopping"`
	Files     fileOptions      `group:"Files and logging"`
	Readiness readinessOptions `group:"Readiness and systemd"`
	Control   controlOptions   `group:"Controlling a running start_server"`
	About     aboutOptions     `group:"Help"`
}

type socketOptions struct {
	Ports   []string `long:"port" unquote:"false" value-name:"ADDR" description:"listen on a TCP port: PORT (on 0.0.0.0), HOST:PORT or [IPV6]:PORT; uPORT is a UDP port. With =FD after it, the worker gets the socket at that descriptor. Repeatable (default: none)"`
	Paths   []string `long:"path" unquote:"false" value-name:"PATH" description:"listen on a unix socket, created with mode 0777. Repeatable (default: none)"`
	Backlog int      `long:"backlog" value-name:"SIZE" description:"how many connections can wait to be accepted (default: SOMAXCONN)"`

	PathMode  *string `long:"path-mode" no-abbrev:"yes" unquote:"false" value-name:"MODE" description:"permissions of the unix sockets, in octal (default: 0777)"`
	PathOwner *string `long:"path-owner" no-abbrev:"yes" unquote:"false" value-name:"USER" description:"owner of the unix sockets: USER, USER:GROUP or :GROUP, by name or number (default: unchanged)"`
	SteerUDP  bool    `long:"steer-udp" no-abbrev:"yes" description:"a UDP socket per generation: QUIC connections stay with theirs, other packets go to the newest"`
}

type workerOptions struct {
	Dir                 string     `long:"dir" unquote:"false" value-name:"DIR" description:"run the program in this directory (default: where start_server was started)"`
	Interval            int        `long:"interval" default:"1" default-mask:"-" value-name:"SECONDS" description:"a new worker has started if it is still running after this many seconds; failed starts are retried once per interval (default: 1)"`
	SignalOnHUP         signalName `long:"signal-on-hup" unquote:"false" value-name:"SIGNAL" description:"stop old workers with this signal after a HUP (default: TERM)"`
	SignalOnTERM        signalName `long:"signal-on-term" unquote:"false" value-name:"SIGNAL" description:"stop workers with this signal after a TERM (default: TERM)"`
	AutoRestart         bool       `long:"enable-auto-restart" description:"restart workers periodically (default: $ENABLE_AUTO_RESTART)"`
	AutoRestartInterval *int       `long:"auto-restart-interval" value-name:"SECONDS" description:"seconds between automatic restarts (default: $AUTO_RESTART_INTERVAL, else 360)"`
	KillOldDelay        *int       `long:"kill-old-delay" value-name:"SECONDS" description:"stop old workers this many seconds after a new one has started (default: $KILL_OLD_DELAY, else 0; 5 with --enable-auto-restart, 1 with --steer-udp)"`
	KillTimeout         *int       `long:"kill-timeout" no-abbrev:"yes" value-name:"SECONDS" description:"send SIGKILL to a worker still running this many seconds after being told to stop (default: never)"`
	MaxOldWorkers       *int       `long:"max-old-workers" no-abbrev:"yes" value-name:"COUNT" description:"send SIGKILL to the oldest when more old workers than this are left (default: no limit)"`
	MaxAttempts         *int       `long:"max-attempts" no-abbrev:"yes" value-name:"COUNT" description:"give up a restart after this many failed attempts in a row, and keep the old workers; give up a first start likewise, with exit status 1 (default: never)"`
	StopFirst           bool       `long:"stop-first" no-abbrev:"yes" description:"stop the old workers before starting a new one; connections wait meanwhile"`
	StopDelay           *int       `long:"stop-delay" no-abbrev:"yes" value-name:"SECONDS" description:"stop workers this many seconds after a TERM, INT or QUIT; a second one stops them at once (default: 0)"`
	Workers             *int       `long:"workers" no-abbrev:"yes" value-name:"COUNT" description:"run this many processes of the program, numbered by $SERVER_STARTER_WORKER (default: 1)"`
	User                *string    `long:"user" no-abbrev:"yes" unquote:"false" value-name:"USER" description:"run the program as this USER or USER:GROUP, by name or number; requires root (default: unchanged)"`
}

type fileOptions struct {
	PIDFile    string `long:"pid-file" unquote:"false" value-name:"FILE" description:"write the process id to this file and keep it locked (default: none)"`
	StatusFile string `long:"status-file" unquote:"false" value-name:"FILE" description:"write a line GENERATION:PID to this file for each worker that has started (default: none)"`
	StatusJSON string `long:"status-json" no-abbrev:"yes" unquote:"false" value-name:"FILE" description:"write the state of start_server, the workers and the last restart to this file as JSON (default: none)"`
	EnvDir     string `long:"envdir" unquote:"false" value-name:"DIR" description:"set an environment variable for each file in this directory, read before every start (default: $ENVDIR)"`
	LogFile    string `long:"log-file" unquote:"false" value-name:"FILE" description:"append the output of start_server and the workers to this file, reopened on HUP; \"| COMMAND\" pipes it to a command (default: standard output and error)"`
	LogPrefix  string `long:"log-prefix" no-abbrev:"yes" unquote:"false" value-name:"TEXT" description:"begin each line of start_server's own with the time and this text (default: no time, no text)"`
	Daemonize  bool   `long:"daemonize" description:"run in the background; requires --log-file"`
}

type readinessOptions struct {
	AcceptTimeout    *int `long:"accept-timeout" no-abbrev:"yes" value-name:"SECONDS" description:"a new worker has started when it waits for connections on its sockets, or fails after this many seconds (default: --interval decides)"`
	ReadyTimeout     *int `long:"ready-timeout" no-abbrev:"yes" value-name:"SECONDS" description:"the same for a worker that sends READY=1 to $NOTIFY_SOCKET, see sd_notify(3) (default: --interval decides)"`
	SocketActivation bool `long:"socket-activation" no-abbrev:"yes" description:"pass the sockets by LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES as well, see sd_listen_fds(3)"`
}

type controlOptions struct {
	Restart        bool `long:"restart" description:"send HUP to a running start_server and wait until the old workers are gone; requires --pid-file and --status-file"`
	Stop           bool `long:"stop" description:"send TERM to a running start_server and wait until it is gone; requires --pid-file"`
	Show           bool `long:"show" no-abbrev:"yes" description:"show a running start_server and its workers, what it waits for and how the last restart ended; exit with 1 if no worker serves; requires --pid-file"`
	RestartTimeout *int `long:"restart-timeout" no-abbrev:"yes" value-name:"SECONDS" description:"with --restart, give up after this many seconds (default: never)"`
}

type aboutOptions struct {
	Help    bool `long:"help" description:"print this help and exit"`
	Version bool `long:"version" description:"print the version and exit"`
}

// getoptOptions returns the same options in the form of package getopt.
func getoptOptions() []getopt.Option { return getoptFields(reflect.TypeFor[options]()) }

func getoptFields(t reflect.Type) (list []getopt.Option) {
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Type.Kind() == reflect.Struct {
			list = append(list, getoptFields(field.Type)...)
			continue
		}
		kind := getopt.String
		switch field.Type {
		case reflect.TypeFor[bool]():
			kind = getopt.Flag
		case reflect.TypeFor[int](), reflect.TypeFor[*int]():
			kind = getopt.Integer
		}
		list = append(list, getopt.Option{Name: field.Tag.Get("long"), Kind: kind, NoAbbrev: field.Tag.Get("no-abbrev") != ""})
	}
	return list
}

// errUsage means that the command line is wrong, and that the errors are printed.
var errUsage = errors.New("usage")

// parse reads the command line: getopt applies the rules of the original's parser, go-flags
// stores the values.
func parse(argv []string, stderr io.Writer) (o options, program []string, err error) {
	_, posix := os.LookupEnv("POSIXLY_CORRECT")
	words, program, messages := getopt.Parse(getoptOptions(), argv, posix)
	for _, message := range messages {
		fmt.Fprintln(stderr, message)
	}
	if len(messages) > 0 {
		return o, nil, errUsage
	}
	parser, err := newParser(&o)
	if err == nil {
		_, err = parser.ParseArgs(words)
	}
	return o, program, err
}

func newParser(o *options) (*flags.Parser, error) {
	parser := flags.NewNamedParser("start_server", flags.PassDoubleDash)
	_, err := parser.AddGroup("Options", "", o)
	return parser, err
}

func configOf(argv []string, stderr io.Writer) (starter.Config, error) {
	o, program, err := parse(argv, stderr)
	if err != nil {
		return starter.Config{}, err
	}
	return o.config(program)
}

func (o options) config(program []string) (starter.Config, error) {
	c := starter.NewConfig(program...)
	c.Ports, c.Paths, c.Backlog = o.Sockets.Ports, o.Sockets.Paths, o.Sockets.Backlog
	c.SteerUDP = o.Sockets.SteerUDP
	c.PIDFile, c.StatusFile, c.EnvDir = o.Files.PIDFile, o.Files.StatusFile, o.Files.EnvDir
	c.StatusJSON, c.Version = o.Files.StatusJSON, version
	c.GiveBack = false // a reader of the output must see its end, and a late signal must not change the exit status
	c.LogFile, c.LogPrefix, c.Daemonize = o.Files.LogFile, o.Files.LogPrefix, o.Files.Daemonize
	c.SocketActivation = o.Readiness.SocketActivation
	var errs [4]error
	c.PathMode, errs[0] = notEmpty("path-mode", o.Sockets.PathMode)
	c.PathOwner, errs[1] = notEmpty("path-owner", o.Sockets.PathOwner)
	c.ReadyTimeout, errs[2] = timeout("ready-timeout", o.Readiness.ReadyTimeout)
	c.AcceptTimeout, errs[3] = timeout("accept-timeout", o.Readiness.AcceptTimeout)
	return c, errors.Join(errors.Join(errs[:]...), o.Workers.apply(&c))
}

func (o workerOptions) apply(c *starter.Config) error {
	c.Dir, c.StopFirst = o.Dir, o.StopFirst
	c.Interval = *duration(&o.Interval)
	if isTrue(string(o.SignalOnHUP)) {
		c.SignalOnHUP = string(o.SignalOnHUP)
	}
	if isTrue(string(o.SignalOnTERM)) {
		c.SignalOnTERM = string(o.SignalOnTERM)
	}
	c.AutoRestart = o.AutoRestart
	c.AutoRestartInterval = duration(o.AutoRestartInterval)
	c.KillOldDelay = duration(o.KillOldDelay)
	var errs [4]error
	c.User, errs[0] = notEmpty("user", o.User)
	c.KillTimeout, errs[1] = timeout("kill-timeout", o.KillTimeout)
	if o.StopDelay != nil {
		c.StopDelay = *duration(o.StopDelay)
	}
	c.MaxOldWorkers = o.MaxOldWorkers
	if o.MaxAttempts != nil {
		c.MaxAttempts = *o.MaxAttempts
		errs[2] = atLeastOne("max-attempts", *o.MaxAttempts)
	}
	if o.Workers != nil {
		c.Workers = *o.Workers
		errs[3] = atLeastOne("workers", *o.Workers)
	}
	return errors.Join(errs[:]...)
}

// control acts on a running start_server.
func (o options) control(ctx context.Context, stdout, stderr io.Writer) error {
	c, err := o.controlConfig(stdout, stderr)
	switch {
	case err != nil:
		return err
	case o.Control.Restart:
		return c.Restart(ctx)
	case o.Control.Stop:
		return c.Stop(ctx, stderr)
	}
	return c.Show(ctx, stdout)
}

func (o options) controlConfig(stdout, stderr io.Writer) (starter.Control, error) {
	c := starter.Control{PIDFile: o.Files.PIDFile, StatusFile: o.Files.StatusFile, StatusJSON: o.Files.StatusJSON}
	if isTrue(string(o.Workers.SignalOnTERM)) {
		c.SignalOnTERM = string(o.Workers.SignalOnTERM)
	}
	if file, ok := stderr.(*os.File); ok && isTerminal(file) {
		c.Progress = file
	}
	if file, ok := stdout.(*os.File); ok && isTerminal(file) {
		c.Colour = os.Getenv("NO_COLOR") == ""
	}
	var err error
	c.Timeout, err = timeout("restart-timeout", o.Control.RestartTimeout)
	return c, err
}

// isTrue reports whether a value is true in Perl. The original uses the default for any other.
func isTrue(value string) bool { return value != "" && value != "0" }

// duration returns a number of seconds as a time.Duration, limited to what that can hold.
func duration(seconds *int) *time.Duration {
	if seconds == nil {
		return nil
	}
	d := time.Duration(max(math.MinInt32, min(*seconds, math.MaxInt32))) * time.Second
	return &d
}

// notEmpty rejects an empty value, such as that of --user="$APP_USER" if the variable is not set.
func notEmpty(name string, value *string) (string, error) {
	if value == nil {
		return "", nil
	}
	if *value == "" {
		return "", fmt.Errorf("--%s=%q: must not be empty", name, *value)
	}
	return *value, nil
}

func timeout(name string, seconds *int) (time.Duration, error) {
	if seconds == nil {
		return 0, nil
	}
	return *duration(seconds), atLeastOne(name, *seconds)
}

func atLeastOne(name string, n int) error {
	if n <= 0 {
		return fmt.Errorf("--%s=%d: must be 1 or more", name, n)
	}
	return nil
}
