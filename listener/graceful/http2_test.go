package graceful

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// recorder is a connection that keeps what is written.
type recorder struct {
	net.Conn
	written bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) { return r.written.Write(p) }

func frame(kind byte, length int) []byte {
	header := []byte{byte(length >> 16), byte(length >> 8), byte(length), kind, 0, 0, 0, 0, 1}
	return append(header, bytes.Repeat([]byte{kind}, length)...)
}

// The GOAWAY stands between two frames, after the first answer has begun, however the frames are
// cut.
func TestGoAwayBetweenFrames(t *testing.T) {
	const settings, data = 4, 0
	frames := [][]byte{
		frame(settings, 18), frame(settings, 0), frame(frameHeaders, 40), frame(data, 0), frame(data, 70000), frame(data, 5),
	}
	for round := range 500 {
		random := rand.New(rand.NewPCG(1, uint64(round)))
		rec := new(recorder)
		c := &http2Conn{Conn: rec}
		ordered := time.Now()
		rest := bytes.Join(frames, nil)
		for len(rest) > 0 {
			if random.IntN(3) == 0 {
				c.mu.Lock() // so that it is not written beside the test
				c.want = c.want || c.asked.IsZero() && c.answered
				c.mu.Unlock()
			}
			n := min(len(rest), 1+random.IntN(1<<random.IntN(18)))
			if written, err := c.Write(rest[:n]); written != n || err != nil {
				t.Fatal(written, err)
			}
			rest = rest[n:]
		}
		var got [][]byte
		for all := rec.written.Bytes(); len(all) > 0; {
			n := frameHeaderLen + int(all[0])<<16 + int(all[1])<<8 + int(all[2])
			got = append(got, all[:n])
			all = all[n:]
		}
		var others [][]byte
		for i, f := range got {
			if !bytes.Equal(f, goAway) {
				others = append(others, f)
			} else if i < 3 {
				t.Fatalf("round %d: GOAWAY before an answer", round)
			}
		}
		asked := !c.asked.IsZero() && c.asked.After(ordered)
		if len(got)-len(others) > 1 || asked != (len(got) > len(frames)) || !bytes.Equal(bytes.Join(others, nil), bytes.Join(frames, nil)) {
			t.Fatalf("round %d: %d frames, GOAWAY %v", round, len(got), asked)
		}
	}
}

// readFrame returns the next frame of the kind.
func readFrame(t *testing.T, conn net.Conn, kind byte) []byte {
	t.Helper()
	for {
		header := make([]byte, frameHeaderLen)
		if _, err := io.ReadFull(conn, header); err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, int(header[0])<<16|int(header[1])<<8|int(header[2]))
		if _, err := io.ReadFull(conn, payload); err != nil {
			t.Fatal(err)
		}
		if header[3] == kind {
			return append(header, payload...)
		}
	}
}

// Under each Go clients are asked to go, over TLS and without, and then still answered. If this
// fails, net/http serves HTTP/2 in a way that the package does not know.
func TestHTTP2GoAwayIsInForce(t *testing.T) {
	for _, encrypted := range []bool{true, false} {
		srv := &http.Server{Handler: newGate(), Protocols: new(http.Protocols)}
		srv.Protocols.SetUnencryptedHTTP2(true)
		if encrypted {
			srv, _ = secure(t, newGate())
		}
		logged := make(lines, 10)
		s := startGroup(t, &Group{Grace: time.Hour, Logf: logged.logf}, srv)
		conn := s.connect().conn
		if encrypted {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		}
		request := func(stream byte) {
			const headers = "\x82\x87\x84\x41\x04test" // GET, https, /, authority: test
			io.WriteString(conn, "\x00\x00\x09\x01\x05\x00\x00\x00"+string(rune(stream))+headers)
		}
		io.WriteString(conn, preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		request(1)
		readFrame(t, conn, frameHeaders)
		s.term()
		if got := readFrame(t, conn, goAway[3]); !bytes.Equal(got, goAway) {
			t.Errorf("encrypted %v: %x instead of %x", encrypted, got, goAway)
		}
		request(3)
		readFrame(t, conn, frameHeaders)
		conn.Close()
		s.wantEnd()
		logged.want(t, "draining") // and no warning before
	}
}

// If they cannot be asked, the group says so, once.
func TestHTTP2Warning(t *testing.T) {
	logged := make(lines, 10)
	g := &Group{Logf: logged.logf}
	s := newHTTPServer(g, &http.Server{Handler: newGate()}, []net.Listener{listen(t)}, true)
	s.handler = s.srv.Handler
	conn := &recorder{}
	s.connections.observe(conn, http.StateNew)
	r := httptest.NewRequestWithContext(context.WithValue(t.Context(), connKey{}, conn), "GET", "/", nil)
	r.ProtoMajor = 2
	for range 2 {
		s.ServeHTTP(httptest.NewRecorder(), r)
	}
	logged.want(t, "HTTP/2 on "+s.acceptors[0].Addr().String(), "can lose requests")
	if len(logged) > 0 {
		t.Error(<-logged)
	}
}

// secure is a server for HTTP/2 and a client of it.
func secure(t *testing.T, handler http.Handler) (*http.Server, *http.Transport) {
	site := httptest.NewTLSServer(nil)
	t.Cleanup(site.Close)
	transport := site.Client().Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2 = true
	return &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: site.TLS.Certificates}}, transport
}

// An idle client of HTTP/2 is asked to go, and so needs no grace period. Without one it is closed.
func TestHTTP2IdleConnection(t *testing.T) {
	for _, grace := range []time.Duration{time.Hour, -1} {
		srv, transport := secure(t, newGate())
		s := start(t, srv, grace)
		get2(t, transport, s.addr, "hello")
		s.term()
		s.wantEnd()
	}
}

// A request under way is answered, on a connection whose client was asked to go.
func TestHTTP2RequestUnderWay(t *testing.T) {
	g := newGate()
	srv, transport := secure(t, g)
	s := start(t, srv, -1)
	answer := make(chan string)
	go func() {
		response, err := (&http.Client{Transport: transport, Timeout: testLimit}).Get("https://" + s.addr + "/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer <- string(body)
	}()
	receive(t, g.entered)
	s.term()
	time.AfterFunc(settle+3*pollInterval, func() { close(g.leave) })
	if got := receive(t, answer); got != "slow" {
		t.Error(got)
	}
	s.wantEnd()
}

func get2(t *testing.T, transport *http.Transport, addr, want string) {
	t.Helper()
	response, err := (&http.Client{Transport: transport, Timeout: testLimit}).Get("https://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if response.Body.Close(); err != nil || string(body) != want || response.ProtoMajor != 2 {
		t.Errorf("%q, %v, %s", body, err, response.Proto)
	}
}

// Handlers and hooks see of an HTTP/2 connection what net/http shows of it.
func TestHTTP2LooksTheSame(t *testing.T) {
	type key struct{}
	var states atomic.Int32
	srv, transport := secure(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.TLS.NegotiatedProtocol != "h2" || r.Context().Value(key{}) != "connection" {
			t.Errorf("TLS %v, context %v", r.TLS, r.Context().Value(key{}))
		}
		if !strings.HasPrefix(r.RemoteAddr, "127.0.0.1:") {
			t.Error(r.RemoteAddr)
		}
		io.WriteString(w, "hello")
	}))
	srv.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, key{}, "connection")
	}
	srv.ConnState = func(conn net.Conn, state http.ConnState) {
		if _, ok := conn.(*tls.Conn); !ok {
			t.Errorf("%v of a %T", state, conn)
		}
		states.Add(1)
	}
	s := start(t, srv, time.Hour)
	get2(t, transport, s.addr, "hello")
	s.term()
	s.wantEnd()
	if states.Load() < 4 {
		t.Errorf("%d states", states.Load())
	}
}

// A client that says it speaks HTTP/2 and does not is dropped.
func TestHTTP2BadPreface(t *testing.T) {
	srv, _ := secure(t, newGate())
	s := start(t, srv, time.Hour)
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testLimit))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: test\r\n\r\n")
	// Since Go 1.27 the server's SETTINGS come first.
	if answer, err := io.ReadAll(conn); bytes.Contains(answer, []byte("HTTP")) || bytes.Contains(answer, []byte("hello")) {
		t.Errorf("%q, %v", answer, err)
	}
	s.term()
	s.wantEnd()
}

// A connection of another protocol is waited for, however long it has been open.
func TestOtherProtocolIsWaitedFor(t *testing.T) {
	begun, leave := make(chan struct{}), make(chan struct{})
	srv, _ := secure(t, newGate())
	srv.TLSConfig.NextProtos = []string{"mine"}
	srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		"mine": func(_ *http.Server, conn *tls.Conn, _ http.Handler) {
			close(begun)
			<-leave
			io.WriteString(conn, "done")
		},
	}
	logged := make(lines, 10)
	s := startGroup(t, &Group{Grace: -1, Logf: logged.logf}, srv)
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"mine"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testLimit))
	receive(t, begun)
	s.term()
	logged.want(t, "1 connections with a request under way")
	time.AfterFunc(3*pollInterval, func() { close(leave) })
	if answer, err := io.ReadAll(conn); string(answer) != "done" {
		t.Errorf("%q, %v", answer, err)
	}
	s.wantEnd()
}

// HTTP/2 that the program has put into TLSNextProto, as golang.org/x/net/http2 did, takes a tls.Conn.
func TestHTTP2OfTheProgram(t *testing.T) {
	srv, _ := secure(t, newGate())
	srv.TLSConfig.NextProtos = []string{"h2"}
	srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		"h2": func(_ *http.Server, conn *tls.Conn, _ http.Handler) { io.WriteString(conn, "mine") },
	}
	s := start(t, srv, time.Hour)
	conn := tls.Client(s.connect().conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	io.WriteString(conn, preface)
	if answer, err := io.ReadAll(conn); string(answer) != "mine" {
		t.Errorf("%q, %v", answer, err)
	}
	s.term()
	s.wantEnd()
}

// HTTP/2 without TLS, over the same listener as HTTP/1.
func TestHTTP2Unencrypted(t *testing.T) {
	srv := &http.Server{Handler: newGate(), Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	s := start(t, srv, time.Hour)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	response, err := (&http.Client{Transport: transport, Timeout: testLimit}).Get("http://" + s.addr)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.ProtoMajor != 2 {
		t.Error(response.Proto)
	}
	c := s.connect()
	c.send("/")
	c.want("hello", false)
	s.term()
	c.send("/")
	c.want("hello", true)
	s.wantEnd()
}
