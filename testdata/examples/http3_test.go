//go:build linux

package examples

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

func TestHTTP3(t *testing.T) {
	cert, key := certificate(t)
	d := start(t, "http3", []string{"--steer-udp", "8443", "u8443"}, "-addr="+address(8443), "-cert="+cert, "-key="+key)
	checkAltSvc(t)
	secure := &tls.Config{InsecureSkipVerify: true}
	swapUnderLoad(t, d, kinds{
		"HTTP/1, kept alive":       func() client { return &http1Client{addr: address(8443), status: 200, keep: true, tls: secure} },
		"HTTP/2, frames":           func() client { return &frameClient{addr: address(8443)} },
		"HTTP/3, kept":             func() client { return newHTTP3Client(http3Client{keep: true}) },
		"HTTP/3, new each request": func() client { return newHTTP3Client(http3Client{}) },
		"HTTP/3, 0.5 s each, kept": func() client { return newHTTP3Client(http3Client{keep: true, query: "?wait=500ms"}) },
		"HTTP/3, 0-RTT":            func() client { return newHTTP3Client(http3Client{early: true}) },
		"HTTP/3, changing ports":   func() client { return newHTTP3Client(http3Client{keep: true, migrate: true}) },
	})
}

// checkAltSvc checks that the answer over TCP names the UDP port.
func checkAltSvc(t *testing.T) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("https://" + address(8443))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if got := response.Header.Get("Alt-Svc"); !strings.HasPrefix(got, `h3=":8443"`) {
		t.Errorf("Alt-Svc: %q", got)
	}
}

// http3Client asks by HTTP/3.
type http3Client struct {
	keep    bool   // the connection
	early   bool   // ask by 0-RTT, on a new connection each time
	migrate bool   // to another port, twice: quic-go's server follows three paths at a time
	query   string // of the request

	transport *http3.Transport
	sessions  tls.ClientSessionCache // for 0-RTT
	conn      *quic.Conn             // the latest
	asked     int                    // on that
}

func newHTTP3Client(c http3Client) *http3Client {
	c.sessions = tls.NewLRUClientSessionCache(1)
	return &c
}

func (c *http3Client) ask(ctx context.Context) error {
	if c.transport == nil {
		config := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: c.sessions}
		c.transport = &http3.Transport{TLSClientConfig: config, Dial: c.dial}
	}
	if !c.keep {
		defer c.close()
	}
	if c.asked++; c.migrate && (c.asked == 20 || c.asked == 40) {
		if err := c.changePort(ctx); err != nil {
			return err
		}
	}
	_, resumes := c.sessions.Get(host())
	method := http.MethodGet
	if c.early {
		method = http3.MethodGet0RTT
	}
	request, err := http.NewRequestWithContext(ctx, method, "https://"+address(8443)+"/"+c.query, nil)
	if err != nil {
		return err
	}
	response, err := c.transport.RoundTrip(request)
	if own := (*http3.Error)(nil); errors.As(err, &own) && !own.Remote && own.ErrorCode == http3.ErrCodeNoError {
		// At a GOAWAY quic-go's client closes the connection that it has just chosen for a request. The
		// server takes no requests after GOAWAY.
		response, err = c.transport.RoundTrip(request)
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case string(body) != "hello over HTTP/3.0\n":
		return fmt.Errorf("%s, %q", response.Status, body)
	case c.early && resumes && !c.conn.ConnectionState().Used0RTT:
		return errors.New("0-RTT was refused")
	}
	return nil
}

// dial connects from a port of its own.
func (c *http3Client) dial(ctx context.Context, addr string, config *tls.Config, quicConfig *quic.Config) (*quic.Conn, error) {
	server, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	endpoint, release, err := newEndpoint()
	if err != nil {
		return nil, err
	}
	conn, err := endpoint.DialEarly(ctx, server, config, quicConfig)
	if err != nil {
		release()
		return nil, err
	}
	context.AfterFunc(conn.Context(), release)
	c.conn, c.asked = conn, 0
	return conn, nil
}

func newEndpoint() (endpoint *quic.Transport, release func(), err error) {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	endpoint = &quic.Transport{Conn: packets}
	return endpoint, func() {
		endpoint.Close()
		packets.Close()
	}, nil
}

// changePort continues the connection from another port (RFC 9000, 9).
func (c *http3Client) changePort(ctx context.Context) error {
	conn := c.conn
	endpoint, release, err := newEndpoint()
	if err != nil {
		return err
	}
	context.AfterFunc(conn.Context(), release)
	path, err := conn.AddPath(endpoint)
	if err == nil {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		context.AfterFunc(conn.Context(), cancel)
		err = path.Probe(ctx)
	}
	if err == nil {
		err = path.Switch()
	}
	if conn.Context().Err() != nil {
		return nil // it has ended meanwhile, and the next request connects again
	}
	return err
}

func (c *http3Client) close() {
	if c.transport != nil {
		c.transport.Close()
		c.transport = nil
	}
}
