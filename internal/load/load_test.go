package load

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// serve starts a server with the handler and returns a Target for it, whose Check ends the context
// after n requests.
func serve(t *testing.T, network string, handler http.HandlerFunc, n int64) (Target, context.Context) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "sock")
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)

	ctx, cancel := context.WithCancel(t.Context())
	var seen atomic.Int64
	check := func(response *http.Response, body []byte) error {
		if seen.Add(1) == n {
			cancel()
		}
		if string(body) != "hello" {
			return errors.New("not hello")
		}
		return nil
	}
	return Target{Network: network, Address: listener.Addr().String(), Check: check}, ctx
}

func hello(w http.ResponseWriter, r *http.Request) { w.Write([]byte("hello")) }

func TestRun(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, keepAlive := range []bool{false, true} {
			target, ctx := serve(t, network, hello, 100)
			got := Run(ctx, target, 4, keepAlive)
			if got.Lost != 0 || got.Answered < 100 || got.Sent != got.Answered {
				t.Errorf("%s, keep-alive %v: %+v", network, keepAlive, got)
			}
			if keepAlive && got.Conns > 4 || !keepAlive && got.Conns != got.Sent {
				t.Errorf("%s, keep-alive %v: %d connections for %d requests", network, keepAlive, got.Conns, got.Sent)
			}
		}
	}
}

func TestConnectionClose(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		hello(w, r)
	}
	target, ctx := serve(t, "tcp", handler, 20)
	if got := Run(ctx, target, 1, true); got.Lost != 0 || got.Conns != got.Sent {
		t.Errorf("%+v", got)
	}
}

func TestRejectedResponsesAreLost(t *testing.T) {
	target, ctx := serve(t, "tcp", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("no")) }, 5)
	got := Run(ctx, target, 1, true)
	if got.Lost != 5 || got.Errors["not hello"] != 5 {
		t.Errorf("%+v", got)
	}
	target.Check = nil
	if got := Run(ctx, target, 1, true); got.Sent != 0 {
		t.Errorf("after the context has ended: %+v", got)
	}
}

// TestLosses has a server that sends the same incomplete answer on every connection.
func TestLosses(t *testing.T) {
	tests := []struct {
		name, answer, reason string
	}{
		{"no answer", "", "read: unexpected EOF"},
		{"half an answer", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "read the body: unexpected EOF"},
		{"status", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "status 503 Service Unavailable"},
		{"closed without notice", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				for n := 0; ; n++ {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					http.ReadRequest(bufio.NewReader(conn))
					conn.Write([]byte(test.answer))
					conn.Close()
					if n == 3 {
						cancel()
					}
				}
			}()
			got := Run(ctx, Target{Network: "tcp", Address: listener.Addr().String()}, 1, true)
			if got.Lost == 0 || test.reason != "" && got.Errors[test.reason] != got.Lost {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestNoListener(t *testing.T) {
	c := client{target: Target{Network: "unix", Address: filepath.Join(t.TempDir(), "sock")}}
	err := c.send(time.Now().Add(time.Minute))
	if want := "dial: no such file or directory"; err == nil || reason(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
