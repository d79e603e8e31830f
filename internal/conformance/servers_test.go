//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/load"
)

// server is a program that is in use under start_server.
type server struct {
	name     string
	options  []string // of start_server
	beyond   []string // more options, which the original lacks
	program  []string // SERVERS stands for the directory with their files, DIR for that of this run
	config   []string // files of SERVERS that are filled in like the program, and written to DIR
	front    []string // a server on PORT2 through which clients reach the program
	ports    int      // how many it listens on, 1 if 0
	fd       int      // the descriptor at which it takes its socket, if not 0
	slow     bool     // to load: under the original, see TestLoading
	lossless bool     // it must not lose a request under the tested start_server
}

var (
	byQUIT    = words("--signal-on-hup=QUIT --signal-on-term=QUIT")
	byUSR1    = words("--signal-on-hup=USR1 --signal-on-term=USR1")
	activated = words("--socket-activation")
)

var servers = []server{
	{name: "Starlet", program: words("plackup -s Starlet --max-workers=3 SERVERS/app.psgi"), lossless: true},
	{name: "Starman", options: byQUIT, program: words("starman --workers=3 SERVERS/app.psgi")},
	{name: "Twiggy", program: words("twiggy SERVERS/app.psgi")},
	{name: "Net::Server::SS::PreFork", program: words("perl SERVERS/prefork.pl")},
	{name: "gunicorn", beyond: activated, program: words("gunicorn --workers=2 --chdir=SERVERS app:app")},
	{name: "uvicorn", fd: 3, slow: true, program: words("uvicorn --fd=3 --app-dir=SERVERS app:asgi")},
	{name: "hypercorn", fd: 3, slow: true, program: words("hypercorn -b fd://3 SERVERS/app:asgi")},
	{name: "daphne", fd: 3, slow: true, program: words("env PYTHONPATH=SERVERS daphne --fd 3 app:asgi")},
	{name: "Puma", beyond: activated, program: words("puma -b tcp://127.0.0.1:PORT1 SERVERS/config.ru")},
	{name: "Unicorn", options: byQUIT, beyond: activated, program: words("unicorn -l 127.0.0.1:PORT1 SERVERS/config.ru")},
	{name: "Node", program: words("node SERVERS/app.js"), lossless: true},
	{name: "Node, two processes", beyond: words("--workers=2"), program: words("node SERVERS/app.js"), lossless: true},
	{name: "h2o", program: words("h2o -c DIR/h2o.conf"), config: words("h2o.conf index.html"), ports: 2, lossless: true},
	{name: "nginx", options: byQUIT, fd: 3, program: words("env NGINX=3; nginx -c DIR/nginx.conf"), config: words("nginx.conf")},
	{name: "HAProxy", options: byUSR1, fd: 3, program: words("haproxy -db -f DIR/haproxy.cfg"), config: words("haproxy.cfg")},
	{name: "PHP-FPM", options: byQUIT, fd: 3, config: words("fpm.conf front.conf"), front: words("nginx -c DIR/front.conf"),
		program: []string{"sh", "-c", "FPM_SOCKETS=127.0.0.1:PORT1=3 exec /usr/sbin/php-fpm*[0-9] -F -R -y DIR/fpm.conf"}},
	{name: "Go, listener/graceful", program: words("hello"), lossless: true},
	{name: "Go, net/http", program: words("worker")},
	{name: "Python", program: words("/usr/bin/python3 SERVERS/worker.py")},
}

func words(line string) []string { return strings.Fields(line) }

const (
	clients = 3 // for each port
)

// TestServers sends ten HUPs to each server under load, under the original and under the tested
// start_server with --accept-timeout, and counts the lost requests.
//
// A server that finishes the requests it has accepted must lose none under the tested start_server.
// Others lose some when they stop, and not the same number in each run. They may lose more than
// under the original by what chance explains, three times the square root of the greater number.
func TestServers(t *testing.T) {
	t.Cleanup(func() { publish(t, lossTable()) })
	slot := make(chan struct{}, 4)
	t.Run("under load", func(t *testing.T) {
		for i := range servers {
			t.Run(servers[i].name, func(t *testing.T) {
				t.Parallel()
				slot <- struct{}{}
				defer func() { <-slot }()
				servers[i].test(t)
			})
		}
	})
}

// lost holds a line of the table for each server.
var lost sync.Map

func lossTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s %-24s %s\n", fmt.Sprintf("lost of sent, %d HUPs", *hupsFlag), "original", "start_server")
	for _, s := range servers {
		if row, ok := lost.Load(s.name); ok {
			b.WriteString(row.(string))
		}
	}
	return b.String()
}

func (s server) test(t *testing.T) {
	var originalResult, result load.Result
	var both sync.WaitGroup
	compared := s.beyond == nil && !s.slow
	if compared {
		both.Go(func() { originalResult = s.swap(t, original) })
	}
	// A second with each generation, as under the original: some hang if they are told to stop just after the start.
	both.Go(func() { result = s.swap(t, tested, "--accept-timeout=60", "--kill-old-delay=1") })
	both.Wait()
	column := func(r load.Result) string { return fmt.Sprintf("%d of %d", r.Lost, r.Sent) }
	left := column(originalResult)
	if s.beyond != nil {
		left = "not possible"
	} else if s.slow {
		left = "not measured"
	}
	lost.Store(s.name, fmt.Sprintf("%-26s %-24s %s\n", s.name, left, column(result)))
	chance := 3 * int(math.Ceil(math.Sqrt(float64(max(result.Lost, originalResult.Lost)))))
	switch {
	case s.lossless && result.Lost > 0:
		t.Errorf("lost %s: %v", column(result), result.Errors)
	case compared && result.Lost > originalResult.Lost+chance:
		t.Errorf("lost %s: %v; under the original %s: %v", column(result), result.Errors, left, originalResult.Errors)
	}
}

// swap runs the server under the start_server in binDir, sends the HUPs, and returns the result of
// its clients.
func (s server) swap(t *testing.T, binDir string, options ...string) load.Result {
	d, ports := s.start(t, binDir, options...)
	total := d.swap(ports, 0)
	if s.options == nil { // else the cleanup kills it: nginx and Starman hang in QUIT at times when they have just started
		d.stop()
	}
	return total
}

// swap sends the HUPs, with at least this time between them, and returns the result of the clients.
func (d *superdaemon) swap(ports []string, between time.Duration) (total load.Result) {
	ctx, stop := context.WithCancel(d.t.Context())
	results := make(chan load.Result)
	for _, port := range ports {
		target := load.Target{Network: "tcp", Address: "127.0.0.1:" + port, Pause: 5 * time.Millisecond}
		go func() { results <- load.Run(ctx, target, clients, false) }()
	}
	for n := range *hupsFlag {
		over := time.After(between)
		done := d.insist("HUP")
		d.waitStatus(fmt.Sprintf(`^%d:\d+\n$`, n+2))
		done()
		<-over
	}
	stop()
	for range ports {
		total.Add(<-results)
	}
	return total
}

// start starts the server under the start_server in binDir, and returns when it answers.
func (s server) start(t *testing.T, binDir string, options ...string) (d *superdaemon, ports []string) {
	dir := t.TempDir()
	ports = make([]string, max(s.ports, 1))
	args := append(options, s.options...)
	if binDir == tested {
		args = append(args, s.beyond...)
	}
	for i := range ports {
		ports[i] = freePort(t)
	}
	d = newSuperdaemon(t, binDir, dir)
	known := ports // the front's as well
	if s.front != nil {
		known = append(known, freePort(t))
	}
	program := s.command(t, dir, known)
	for _, port := range ports {
		address := "--port=127.0.0.1:" + port
		if s.fd > 0 {
			address += fmt.Sprint("=", s.fd)
		}
		args = append(args, address)
	}
	d.start(append(append(args, "--"), program...)...)
	d.waitStatus(`^1:\d+\n$`)
	if s.front != nil {
		newSuperdaemon(t, binDir, dir).run(server{program: s.front}.command(t, dir, known)...)
		ports = known[1:]
	}
	d.waitAnswer("127.0.0.1:" + ports[0])
	return d, ports
}

// command writes the configuration of the server and returns its command line, both with the
// directories and ports of this run.
func (s server) command(t *testing.T, dir string, ports []string) (command []string) {
	files, err := filepath.Abs("testdata/servers")
	if err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("SERVERS", files, "DIR", dir, "PORT1", ports[0], "PORT2", ports[len(ports)-1])
	for _, name := range s.config {
		text, err := os.ReadFile(filepath.Join(files, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte(fill.Replace(string(text))), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, word := range s.program {
		command = append(command, fill.Replace(word))
	}
	return command
}

// freePort returns an unused TCP port, since h2o must know the number beforehand. It is below those
// that the system chooses for the clients of other tests.
func freePort(t *testing.T) string {
	for range 100 {
		port := strconv.Itoa(10000 + rand.IntN(20000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}
