// Package load asks a server for the same page over and over and counts, without mercy, the requests that were not
// answered.
//
// Go's http.Transport must not be used for that: it silently repeats an idempotent request on a new connection when a
// kept-alive one turns out to be closed. Here every request is sent exactly once.
package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Target is what is asked for.
type Target struct {
	Network string // as for net.Dial: "tcp", "unix"
	Address string // as for net.Dial: "127.0.0.1:8080", "/run/app.sock"
	Path    string // the request URI; "/" when empty

	// Check is called with each complete answer, from several goroutines at once. An error makes the request a lost one.
	// Without it any answer with status 200 will do.
	Check func(response *http.Response, body []byte) error

	Pause   time.Duration // how long a client rests after an answer
	Timeout time.Duration // how long an answer may take, the connecting included; 10 seconds when zero
}

// Result is what became of the requests. Sent is always Answered + Lost.
type Result struct {
	Sent     int
	Answered int            // got a complete answer that passed the check
	Lost     int            // all others, those for which no connection could be had included
	Errors   map[string]int // why the lost ones were lost: "read: EOF" → how often
	Conns    int            // connections that were opened
	Slowest  time.Duration  // the longest time that an answer took
}

// Add counts the requests of other in r as well.
func (r *Result) Add(other Result) {
	r.Sent += other.Sent
	r.Answered += other.Answered
	r.Lost += other.Lost
	r.Conns += other.Conns
	r.Slowest = max(r.Slowest, other.Slowest)
	for reason, n := range other.Errors {
		r.blame(reason, n)
	}
}

func (r *Result) blame(reason string, n int) {
	if r.Errors == nil {
		r.Errors = make(map[string]int)
	}
	r.Errors[reason] += n
}

// Run lets a number of clients ask, each one request after the other, until ctx is done; requests under way are finished
// first. With keepAlive a client stays on its connection until an answer says that it will be closed; without, it opens
// one for each request. A kept connection that is closed without notice costs the request that is sent on it next.
func Run(ctx context.Context, target Target, clients int, keepAlive bool) Result {
	if target.Path == "" {
		target.Path = "/"
	}
	if target.Timeout == 0 {
		target.Timeout = 10 * time.Second
	}
	results := make(chan Result)
	for range clients {
		go func() {
			c := client{target: target, keepAlive: keepAlive}
			results <- c.run(ctx)
		}()
	}
	var total Result
	for range clients {
		total.Add(<-results)
	}
	return total
}

// client is one of them, with the connection that it keeps between requests.
type client struct {
	target    Target
	keepAlive bool
	conn      net.Conn // nil when there is none to go on with
	reader    *bufio.Reader
	result    Result
}

func (c *client) run(ctx context.Context) Result {
	defer c.hangUp()
	for ctx.Err() == nil {
		start := time.Now()
		err := c.ask(start.Add(c.target.Timeout))
		c.result.Sent++
		if err == nil {
			c.result.Answered++
			c.result.Slowest = max(c.result.Slowest, time.Since(start))
			rest(ctx, c.target.Pause)
			continue
		}
		c.hangUp()
		c.result.Lost++
		c.result.blame(reason(err), 1)
		rest(ctx, 10*time.Millisecond) // a server that is gone must not be counted a million times
	}
	return c.result
}

func rest(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (c *client) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// ask sends one request and reads its answer to the end.
func (c *client) ask(deadline time.Time) error {
	if c.conn == nil {
		dialer := net.Dialer{Deadline: deadline}
		conn, err := dialer.Dial(c.target.Network, c.target.Address)
		if err != nil {
			return err
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
		c.result.Conns++
	}
	c.conn.SetDeadline(deadline)
	if _, err := io.WriteString(c.conn, c.request()); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.reader, &http.Request{Method: http.MethodGet})
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	if response.Close || !c.keepAlive {
		c.hangUp()
	}
	return c.check(response, body)
}

func (c *client) request() string {
	host, connection := c.target.Address, "close"
	if c.target.Network == "unix" {
		host = "localhost"
	}
	if c.keepAlive {
		connection = "keep-alive"
	}
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: %s\r\n\r\n", c.target.Path, host, connection)
}

func (c *client) check(response *http.Response, body []byte) error {
	if c.target.Check != nil {
		return c.target.Check(response, body)
	}
	if response.StatusCode != http.StatusOK {
		return errors.New("status " + response.Status)
	}
	return nil
}

// reason shortens an error to what it has in common with its like: net's errors name the two ports.
func reason(err error) string {
	var errno syscall.Errno
	var network *net.OpError
	if !errors.As(err, &network) {
		return err.Error()
	}
	cause := network.Err
	if errors.As(cause, &errno) {
		cause = errno
	}
	return network.Op + ": " + cause.Error()
}
