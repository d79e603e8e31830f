// Package load sends HTTP requests to a server and counts those that were not answered.
//
// It does not use http.Transport, which silently repeats an idempotent request on a new connection
// if a kept-alive one turns out to be closed. Here every request is sent exactly once.
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

// Target is the server and the page to request.
type Target struct {
	Network string // as for net.Dial: "tcp", "unix"
	Address string // as for net.Dial: "127.0.0.1:8080", "/run/app.sock"
	Path    string // the request URI; "/" when empty

	// Check is called with each complete response, from several goroutines at once. If it returns
	// an error, the request counts as lost. A nil Check accepts every response with status 200.
	Check func(response *http.Response, body []byte) error

	Pause   time.Duration // between a response and the client's next request
	Timeout time.Duration // for a request, connecting included; 0 means 10 seconds
}

// Result counts the requests by their outcome. Sent is always Answered + Lost.
type Result struct {
	Sent     int
	Answered int            // got a complete response that passed the check
	Lost     int            // all others, those without a connection included
	Errors   map[string]int // how many were lost for each reason, such as "read: EOF"
	Conns    int            // connections opened
	Slowest  time.Duration  // the longest time until a response was complete
}

// Add adds the counts of other to r.
func (r *Result) Add(other Result) {
	r.Sent += other.Sent
	r.Answered += other.Answered
	r.Lost += other.Lost
	r.Conns += other.Conns
	r.Slowest = max(r.Slowest, other.Slowest)
	for reason, n := range other.Errors {
		r.addError(reason, n)
	}
}

func (r *Result) addError(reason string, n int) {
	if r.Errors == nil {
		r.Errors = make(map[string]int)
	}
	r.Errors[reason] += n
}

// Run sends requests from a number of clients at once, one after the other from each, until ctx is
// done; requests under way are finished first. With keepAlive a client keeps its connection until a
// response announces that it will be closed; without, it opens one for each request. If a server
// closes a kept connection without announcing it, the next request on it is lost.
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

// client sends requests, and keeps its connection between them.
type client struct {
	target    Target
	keepAlive bool
	conn      net.Conn // nil if the next request needs a new one
	reader    *bufio.Reader
	result    Result
}

func (c *client) run(ctx context.Context) Result {
	defer c.close()
	for ctx.Err() == nil {
		start := time.Now()
		err := c.send(start.Add(c.target.Timeout))
		c.result.Sent++
		if err == nil {
			c.result.Answered++
			c.result.Slowest = max(c.result.Slowest, time.Since(start))
			pause(ctx, c.target.Pause)
			continue
		}
		c.close()
		c.result.Lost++
		c.result.addError(reason(err), 1)
		pause(ctx, 10*time.Millisecond) // do not count a million losses while the server is down
	}
	return c.result
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// send sends one request and reads the response to the end.
func (c *client) send(deadline time.Time) error {
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
		c.close()
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

// reason shortens an error so that errors of one kind are equal: those of package net include
// ports.
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
