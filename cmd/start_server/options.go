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

// version is that of this program; the behaviour is that of Server::Starter 0.35.
const version = "1.0.0"

// options are those of the original, in its order, and then our own, which are marked
// no-abbrev: they take no part in abbreviation.
type options struct {
	Ports               []string   `long:"port" unquote:"false" value-name:"(port|host:port|port=fd|host:port=fd)" description:"TCP port to listen to, at 0.0.0.0 where no host is given; [addr]:port for IPv6. With fd the socket is placed at that descriptor. A u before the port number (u443) means UDP. Repeatable (default: none)"`
	Paths               []string   `long:"path" unquote:"false" value-name:"path" description:"unix socket to listen to, mode 0777. Repeatable (default: none)"`
	Dir                 string     `long:"dir" unquote:"false" value-name:"path" description:"the program runs there (default: where start_server was started)"`
	Interval            int        `long:"interval" default:"1" default-mask:"-" value-name:"seconds" description:"a new worker that is alive after so long has started; a failing one is retried once per interval (default: 1)"`
	SignalOnHUP         signalName `long:"signal-on-hup" unquote:"false" value-name:"SIGNAL" description:"what old workers get after a HUP (default: TERM)"`
	SignalOnTERM        signalName `long:"signal-on-term" unquote:"false" value-name:"SIGNAL" description:"what workers get after a TERM (default: TERM)"`
	PIDFile             string     `long:"pid-file" unquote:"false" value-name:"file" description:"holds the pid, locked as long as start_server lives (default: none)"`
	StatusFile          string     `long:"status-file" unquote:"false" value-name:"file" description:"holds a line generation:pid for each worker that has started (default: none)"`
	EnvDir              string     `long:"envdir" unquote:"false" value-name:"dir" description:"each file in it is a variable for the workers, read before every start (default: $ENVDIR)"`
	LogFile             string     `long:"log-file" unquote:"false" value-name:"(file|\"| cmd args\")" description:"standard output and error of start_server and workers are appended to the file, opened anew at HUP, or go to the command (default: they stay)"`
	Daemonize           bool       `long:"daemonize" description:"detach from the terminal; must come with --log-file"`
	AutoRestart         bool       `long:"enable-auto-restart" description:"restart by time (default: $ENABLE_AUTO_RESTART)"`
	AutoRestartInterval *int       `long:"auto-restart-interval" value-name:"seconds" description:"how often (default: $AUTO_RESTART_INTERVAL, else 360)"`
	KillOldDelay        *int       `long:"kill-old-delay" value-name:"seconds" description:"wait so long between the start of a new worker and the signal to the old ones (default: $KILL_OLD_DELAY, else 5 with --enable-auto-restart, else 0)"`
	Backlog             int        `long:"backlog" value-name:"size" description:"connections that may wait to be accepted (default: SOMAXCONN)"`
	Restart             bool       `long:"restart" description:"with --pid-file and --status-file: send HUP to a running start_server and return when the old generations are gone"`
	Stop                bool       `long:"stop" description:"with --pid-file: send TERM to a running start_server and return when it is gone"`
	Help                bool       `long:"help" description:"print this and exit"`
	Version             bool       `long:"version" description:"print the version and exit"`

	ReadyTimeout     *int `long:"ready-timeout" no-abbrev:"yes" value-name:"seconds" description:"a new worker has started when it says READY=1 on $NOTIFY_SOCKET, sd_notify(3), and has failed when it does not in so long (default: --interval decides)"`
	KillTimeout      *int `long:"kill-timeout" no-abbrev:"yes" value-name:"seconds" description:"a worker that still lives so long after it was told to stop gets KILL (default: nobody is killed)"`
	SocketActivation bool `long:"socket-activation" no-abbrev:"yes" description:"hand the sockets on by sd_listen_fds(3) as well: LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES"`
	RestartTimeout   *int `long:"restart-timeout" no-abbrev:"yes" value-name:"seconds" description:"with --restart: give up waiting after so long (default: never)"`
}

// getoptOptions are the same options as the original's parser sees them.
func getoptOptions() (list []getopt.Option) {
	t := reflect.TypeFor[options]()
	for i := range t.NumField() {
		field := t.Field(i)
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

// errUsage says that what was wrong with the command line was told.
var errUsage = errors.New("usage")

// parse reads the command line: getopt has the manners, go-flags the options.
func parse(argv []string, stderr io.Writer) (o options, parser *flags.Parser, program []string, err error) {
	words, program, complaints := getopt.Parse(getoptOptions(), argv)
	for _, complaint := range complaints {
		fmt.Fprintln(stderr, complaint)
	}
	if len(complaints) > 0 {
		return o, nil, nil, errUsage
	}
	parser, err = newParser(&o)
	if err == nil {
		_, err = parser.ParseArgs(words)
	}
	return o, parser, program, err
}

func newParser(o *options) (*flags.Parser, error) {
	parser := flags.NewNamedParser("start_server", flags.PassDoubleDash)
	parser.Usage = "[options] -- server-prog server-arg1 server-arg2 ..."
	_, err := parser.AddGroup("Options", "", o)
	return parser, err
}

// run is the command: it returns the exit status.
func run(argv []string, stdout, stderr io.Writer) int {
	err := execute(argv, stdout, stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage): // told already
		fmt.Fprintln(stderr, "start_server --help lists the options")
	case errors.Is(err, starter.ErrStartFailed): // told already
	default:
		fmt.Fprintf(stderr, "start_server: %v\n", err)
	}
	return 1
}

func execute(argv []string, stdout, stderr io.Writer) error {
	if completing() {
		return complete(argv, stdout)
	}
	o, parser, program, err := parse(argv, stderr)
	if err != nil {
		return err
	}
	switch {
	case o.Help:
		parser.WriteHelp(stdout)
		return nil
	case o.Version:
		fmt.Fprintln(stdout, version)
		return starter.AnswerUpgradeCheck(stdout, func(argv []string) (starter.Config, error) { return configOf(argv, stderr) })
	case o.Restart:
		control, err := o.control(stderr)
		if err != nil {
			return err
		}
		return control.Restart(context.Background())
	case o.Stop:
		return starter.Control{PIDFile: o.PIDFile}.Stop(stderr)
	}
	config, err := o.config(program)
	if err != nil {
		return err
	}
	return starter.Run(context.Background(), config)
}

func configOf(argv []string, stderr io.Writer) (starter.Config, error) {
	o, _, program, err := parse(argv, stderr)
	if err != nil {
		return starter.Config{}, err
	}
	return o.config(program)
}

func (o options) config(program []string) (starter.Config, error) {
	c := starter.NewConfig(program...)
	c.Ports, c.Paths, c.Backlog = o.Ports, o.Paths, o.Backlog
	c.Dir, c.EnvDir = o.Dir, o.EnvDir
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
	c.PIDFile, c.StatusFile, c.LogFile = o.PIDFile, o.StatusFile, o.LogFile
	c.Daemonize = o.Daemonize
	c.SocketActivation = o.SocketActivation
	var err1, err2 error
	c.ReadyTimeout, err1 = timeout("ready-timeout", o.ReadyTimeout)
	c.KillTimeout, err2 = timeout("kill-timeout", o.KillTimeout)
	return c, errors.Join(err1, err2)
}

func (o options) control(stderr io.Writer) (starter.Control, error) {
	c := starter.Control{PIDFile: o.PIDFile, StatusFile: o.StatusFile}
	if file, ok := stderr.(*os.File); ok && isTerminal(file) {
		c.Progress = file
	}
	var err error
	c.Timeout, err = timeout("restart-timeout", o.RestartTimeout)
	return c, err
}

// isTrue is Perl's idea of truth: the original takes its default for the rest.
func isTrue(value string) bool { return value != "" && value != "0" }

// duration is so many seconds; what nobody lives to see, and a time.Duration does not hold, is cut.
func duration(seconds *int) *time.Duration {
	if seconds == nil {
		return nil
	}
	d := time.Duration(min(*seconds, math.MaxInt32)) * time.Second
	return &d
}

func timeout(name string, seconds *int) (time.Duration, error) {
	if seconds == nil {
		return 0, nil
	}
	if *seconds <= 0 {
		return 0, fmt.Errorf("--%s=%d: must be 1 or more", name, *seconds)
	}
	return *duration(seconds), nil
}
