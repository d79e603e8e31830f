//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/start-server/start-server/internal/load"
)

// loads is a PSGI application that takes 3 s to load. It says in the file loads that it began, and
// READY=1 to whoever has asked for it.
const loads = `open my $f, ">>", "loads"; print $f "$ENV{SERVER_STARTER_GENERATION}\n"; close $f;
sleep 3;
if (my $to = $ENV{NOTIFY_SOCKET}) {
    use Socket;
    $to =~ s/^@/\0/;
    socket my $s, AF_UNIX, SOCK_DGRAM, 0;
    send $s, "READY=1", 0, pack_sockaddr_un($to);
}
sub { [200, ["Content-Type" => "text/plain"], ["hello\n"]] };
`

// deploy measures the slowest request of four clients during two HUPs, of an unchanged Starlet whose
// application takes 3 s to load.
func deploy(options ...string) func(candidate, workers) ([]float64, error) {
	return func(c candidate, _ workers) ([]float64, error) {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		options := append([]string{"--port=127.0.0.1:" + port}, options...)
		s, err := start(c.path, options, []string{"plackup", "-s", "Starlet", "--max-workers=4", "-e", loads})
		if err != nil {
			return nil, err
		}
		defer s.stop()
		target := load.Target{Network: "tcp", Address: "127.0.0.1:" + port, Pause: 5 * time.Millisecond}
		if err := answers(target); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, s.log())
		}
		ctx, stop := context.WithCancel(context.Background())
		result := make(chan load.Result)
		go func() { result <- load.Run(ctx, target, 4, false) }()
		err = s.deployTwice()
		stop()
		r := <-result
		if err == nil && r.Lost > 0 {
			err = fmt.Errorf("%d of %d requests were lost: %v", r.Lost, r.Sent, r.Errors)
		}
		return []float64{float64(r.Slowest)}, err
	}
}

// deployTwice sends two HUPs, and waits after each for the time that a worker takes to load, and to
// stop.
func (s *superdaemon) deployTwice() error {
	for generation := 2; generation <= 3; generation++ {
		if _, err := s.hup(); err != nil {
			return err
		}
		for end := time.Now().Add(patience); s.loaded() < generation; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				return fmt.Errorf("generation %d does not load\n%s", generation, s.log())
			}
		}
		time.Sleep(6 * time.Second)
	}
	return nil
}

// loaded returns how many workers have begun to load.
func (s *superdaemon) loaded() int {
	text, _ := os.ReadFile(filepath.Join(s.dir, "loads"))
	return strings.Count(string(text), "\n")
}

// answers waits until the server answers.
func answers(target load.Target) error {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	for ctx.Err() == nil {
		once, end := context.WithTimeout(ctx, time.Millisecond)
		r := load.Run(once, target, 1, false)
		end()
		if r.Answered > 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("nothing answers at %s", target.Address)
}

// freePort returns a port that is free now. A superdaemon under measurement, of whatever make, is given
// it, because not each of them says what port the kernel has picked.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
