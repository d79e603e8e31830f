//go:build conformance

package conformance

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/load"
)

// takeover is a way to kill a superdaemon under load and start it again.
type takeover struct {
	name    string
	from    *string // the first superdaemon; the later ones are the tested one
	network string
	program []string
	midSwap bool // the superdaemon is killed while a new worker is starting
	broken  bool // the new worker fails at first
}

var takeovers = []takeover{
	{name: "TCP", from: &tested, network: "tcp", program: words("hello")},
	{name: "unix", from: &tested, network: "unix", program: words("hello")},
	{name: "UDP", from: &tested, network: "udp", program: words("/usr/bin/python3 SERVERS/udp.py")},
	{name: "TCP, from the original", from: &original, network: "tcp", program: words("hello")},
	{name: "unix, from the original", from: &original, network: "unix", program: words("hello")},
	{name: "TCP, Starlet, from the original", from: &original, network: "tcp",
		program: words("plackup -s Starlet --max-workers=3 SERVERS/app.psgi")},
	{name: "TCP, in the middle of a swap", from: &tested, network: "tcp", program: words("hello"), midSwap: true},
	{name: "unix, in the middle of a swap", from: &tested, network: "unix", program: words("hello"), midSwap: true},
	{name: "TCP, with a broken program", from: &tested, network: "tcp", program: words("sh app"), broken: true},
}

const kills = 10

// TestTakeover kills the superdaemon under load, again and again, and starts it with the same
// options: no request is lost, and one worker is left.
func TestTakeover(t *testing.T) {
	rows := make([]string, len(takeovers))
	t.Cleanup(func() {
		publish(t, fmt.Sprintf("%-32s %-16s %s\n%s", "kill -9 and start, 10 times", "lost of sent", "from start to adopted, ms", strings.Join(rows, "")))
	})
	slot := make(chan struct{}, 2)
	t.Run("under load", func(t *testing.T) {
		for i, s := range takeovers {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				slot <- struct{}{}
				defer func() { <-slot }()
				sent, lost, gaps := s.run(t)
				rows[i] = fmt.Sprintf("%-32s %-16s %s\n", s.name, fmt.Sprintf("%d of %d", lost, sent), gaps)
				if lost > 0 || sent < 100 {
					t.Errorf("lost %d of %d", lost, sent)
				}
			})
		}
	})
}

func (s takeover) run(t *testing.T) (sent, lost int, gaps string) {
	dir := t.TempDir()
	args, address := s.address(t, dir)
	port := address[strings.LastIndexByte(address, ':')+1:]
	command := append(append(args, "--"), server{program: s.program}.command(t, dir, []string{port})...)
	writeFile(t, dir+"/app", "exec hello\n")
	d := newSuperdaemon(t, *s.from, dir)
	d.start(command...)
	d.waitStatus(`^1:\d+\n$`)

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan load.Result, 1)
	go func() {
		if s.network == "udp" {
			done <- queries(ctx, address)
		} else {
			done <- load.Run(ctx, load.Target{Network: s.network, Address: address, Pause: 2 * time.Millisecond}, clients, false)
		}
	}()
	var all []string
	for range kills {
		if s.midSwap {
			d.signal("HUP")
			d.waitMatch("log", `received HUP(?s:.*)starting new worker`)
		}
		d.kill()
		os.Remove(d.file("log"))
		if s.broken {
			writeFile(t, dir+"/app", "exit 1\n")
		}
		d = newSuperdaemon(t, tested, dir)
		began := time.Now()
		d.start(command...)
		d.waitMatch("log", `is an old worker from now on`)
		all = append(all, fmt.Sprint(time.Since(began).Milliseconds()))
		if s.broken {
			d.waitMatch("log", `seems to have failed`)
			writeFile(t, dir+"/app", "exec hello\n")
		}
		d.waitMatch("log", `killing old workers`)
		d.waitStatus(`\A\d+:\d+\n\z`)
	}
	stop()
	result := <-done
	d.stop()
	if result.Lost > 0 {
		t.Logf("%v; the log:\n%s", result.Errors, d.read("log"))
	}
	return result.Sent, result.Lost, strings.Join(all, " ")
}

func (s takeover) address(t *testing.T, dir string) (args []string, address string) {
	switch port := freePort(t); s.network {
	case "unix":
		return []string{"--path=" + dir + "/app.sock"}, dir + "/app.sock"
	case "udp":
		return []string{"--port=127.0.0.1:u" + port}, "127.0.0.1:" + port
	default:
		return []string{"--port=127.0.0.1:" + port}, "127.0.0.1:" + port
	}
}

// kill kills the superdaemon, not its workers.
func (d *superdaemon) kill() {
	if err := d.cmd.Process.Kill(); err != nil {
		d.t.Error(err)
	}
	<-d.exited
	group := d.cmd.Process.Pid
	d.t.Cleanup(func() { unix.Kill(-group, unix.SIGKILL) })
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// queries sends numbered datagrams as a resolver does, each once and from a socket of its own.
func queries(ctx context.Context, address string) (result load.Result) {
	for ctx.Err() == nil {
		result.Sent++
		if err := query(address, uint64(result.Sent)); err != nil {
			result.Lost++
			result.Errors = map[string]int{err.Error(): result.Lost}
			continue
		}
		result.Answered++
		time.Sleep(time.Millisecond)
	}
	return result
}

func query(address string, number uint64) error {
	c, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.Write(binary.BigEndian.AppendUint64(nil, number)); err != nil {
		return err
	}
	var answer [16]byte
	n, err := c.Read(answer[:])
	if err == nil && (n != 8 || binary.BigEndian.Uint64(answer[:]) != number) {
		return fmt.Errorf("answer to another query")
	}
	return err
}
