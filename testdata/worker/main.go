// Command worker is the server that the test scripts run, under this start_server and the original.
// It serves on every socket in SERVER_STARTER_PORT. Flags make it misbehave: what it waits for are
// files, so that a script controls when something happens and never sleeps.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	reportDir = flag.String("report", "", "write `DIR`/GENERATION.env, .fds, .signals, .drained (GENERATION-NUMBER.env with --workers) and DIR/addr.1, addr.2 and so on")
	failIf    = flag.String("fail-if", "", "exit at once, with --status or 1, if `FILE` exists")
	hold      = flag.String("hold", "", "do not serve before `FILE` exists")
	linger    = flag.String("linger", "", "keep running after a signal to stop until `FILE` exists")
	ignore    = flag.String("ignore", "", "record these `SIGNALS` (TERM,HUP) but do not stop")
	unserved  = flag.String("unserved", "", "do not serve on the last socket if `FILE` exists")
	ready     = flag.Bool("ready", false, "send READY=1 to $NOTIFY_SOCKET when serving")
	status    = flag.Int("status", 0, "exit status")
)

var (
	generation = os.Getenv("SERVER_STARTER_GENERATION")
	number     = os.Getenv("SERVER_STARTER_WORKER") // with it, files are also GENERATION-NUMBER.env and so on, and FILE.NUMBER
)

func main() {
	flag.Parse()
	signals := make(chan os.Signal, 100)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH)
	if exists(*failIf) {
		os.Exit(max(*status, 1))
	}
	report("env", environment())
	report("fds", descriptors())
	stopped := make(chan struct{})
	go handle(signals, stopped)
	if waitFile(*hold, stopped) {
		stop := serve()
		if *ready {
			notifyReady()
		}
		<-stopped
		stop()
		report("drained", "accepts no connections any more\n")
	}
	waitFile(*linger, nil)
	os.Exit(*status)
}

// handle records every signal while the process runs, and closes stopped at the first one that is
// not ignored.
func handle(signals <-chan os.Signal, stopped chan<- struct{}) {
	ignored := strings.Split(*ignore, ",")
	seen, once := "", false
	for s := range signals {
		name := strings.TrimPrefix(unix.SignalName(s.(syscall.Signal)), "SIG")
		seen += name + "\n"
		report("signals", seen)
		if !once && !slices.Contains(ignored, name) {
			once = true
			close(stopped)
		}
	}
}

// serve answers on every socket that was passed. The returned function stops that, after the
// requests under way.
func serve() (stop func()) {
	srv := &http.Server{Handler: http.HandlerFunc(answer)}
	entries := strings.FieldsFunc(os.Getenv("SERVER_STARTER_PORT"), func(r rune) bool { return r == ';' })
	if exists(*unserved) {
		entries = entries[:len(entries)-1]
	}
	for i, entry := range entries {
		fd, err := strconv.Atoi(entry[strings.LastIndex(entry, "=")+1:])
		must(err)
		file := os.NewFile(uintptr(fd), entry)
		var addr net.Addr
		if socktype, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && socktype == unix.SOCK_DGRAM {
			conn, err := net.FilePacketConn(file)
			must(err)
			addr = conn.LocalAddr()
			go echo(conn)
		} else {
			l, err := net.FileListener(file)
			must(err)
			addr = l.Addr()
			go srv.Serve(l)
		}
		file.Close()
		write(fmt.Sprintf("addr.%d", i+1), addr.Network()+" "+addr.String()+"\n")
	}
	return func() {
		srv.Shutdown(context.Background())
	}
}

func answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/exit" {
		n, _ := strconv.Atoi(r.FormValue("status"))
		os.Exit(n)
	}
	fmt.Fprintf(w, "generation %s pid %d", generation, os.Getpid())
	if number != "" {
		fmt.Fprint(w, " number ", number)
	}
	fmt.Fprintln(w)
}

func echo(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		conn.WriteTo(fmt.Appendf(nil, "generation %s got %s\n", generation, buf[:n]), from)
	}
}

// notifyReady sends READY=1 as sd_notify(3) does.
func notifyReady() {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	must(err)
	_, err = conn.Write([]byte("READY=1"))
	must(err)
}

func environment() string {
	env := os.Environ()
	slices.Sort(env)
	return strings.Join(env, "\n") + "\n"
}

// waitFile waits until the file exists (true) or giveUp is closed (false). Without a file it
// returns true at once.
func waitFile(file string, giveUp <-chan struct{}) bool {
	for file != "" && !exists(file) {
		select {
		case <-giveUp:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return true
}

func exists(file string) bool {
	if file == "" { // a look at the working directory may hang
		return false
	}
	_, err := os.Stat(file)
	_, ownErr := os.Stat(file + "." + number)
	return err == nil || ownErr == nil
}

func report(kind, text string) {
	name := generation
	if number != "" {
		name += "-" + number
	}
	write(name+"."+kind, text)
}

// write replaces a file of the report atomically: a script that waits for it never sees a part of
// it.
func write(name, text string) {
	if *reportDir == "" {
		return
	}
	os.MkdirAll(*reportDir, 0o777)
	tmp := fmt.Sprintf("%s/.%s.%d", *reportDir, name, os.Getpid())
	must(os.WriteFile(tmp, []byte(text), 0o666))
	must(os.Rename(tmp, *reportDir+"/"+name))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(70)
	}
}
