//go:build linux

// Package examples tests the programs below it.
package examples

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/miekg/dns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func TestNetHTTP(t *testing.T)  { testHTTP(t, "nethttp") }
func TestEcho(t *testing.T)     { testHTTP(t, "echo") }
func TestChi(t *testing.T)      { testHTTP(t, "chi") }
func TestFastHTTP(t *testing.T) { testHTTP(t, "fasthttp", "-addr="+address(8080)) }

func TestGin(t *testing.T) {
	d := start(t, "gin", []string{"8080"})
	swapUnderLoad(t, d, kinds{
		"HTTP/1, kept alive":                  func() client { return &http1Client{addr: address(8080), status: 200, keep: true} },
		"HTTP/1, one each request":            func() client { return &http1Client{addr: address(8080), status: 200} },
		"HTTP/2 without TLS, frames":          func() client { return &frameClient{addr: address(8080), plain: true} },
		"HTTP/2 without TLS, net/http's POST": func() client { return newH2CClient("http://" + address(8080)) },
	})
}

func testHTTP(t *testing.T, example string, args ...string) {
	d := start(t, example, []string{"8080"}, args...)
	swapUnderLoad(t, d, kinds{
		"HTTP/1, kept alive":       func() client { return &http1Client{addr: address(8080), status: 200, keep: true} },
		"HTTP/1, one each request": func() client { return &http1Client{addr: address(8080), status: 200} },
	})
}

// http1Client asks by HTTP/1. Unlike net/http's client it never sends a request again.
type http1Client struct {
	addr   string
	status int
	keep   bool
	tls    *tls.Config // nil for plain HTTP
	conn   net.Conn
	reader *bufio.Reader
}

func (c *http1Client) ask(ctx context.Context) error {
	if c.conn == nil {
		conn, err := dial(ctx, c.addr)
		if err != nil {
			return err
		}
		if c.tls != nil {
			conn = tls.Client(conn, c.tls)
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	close, err := c.exchange()
	if err != nil || close || !c.keep {
		c.close()
	}
	return err
}

func (c *http1Client) exchange() (close bool, err error) {
	if _, err := io.WriteString(c.conn, "GET / HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
		return true, err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return true, err
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return true, err
	}
	if response.StatusCode != c.status {
		return true, errors.New(response.Status)
	}
	return response.Close, nil
}

func (c *http1Client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline.Add(patience * 10)) // a kept one is used for several requests
	return conn, nil
}

func TestHTTPS(t *testing.T) {
	cert, key := certificate(t)
	d := start(t, "https", []string{"8080", "8443"},
		"-http="+address(8080), "-https="+address(8443), "-cert="+cert, "-key="+key)
	secure := &tls.Config{InsecureSkipVerify: true}
	swapUnderLoad(t, d, kinds{
		"HTTP/1, kept alive":        func() client { return &http1Client{addr: address(8080), status: 301, keep: true} },
		"HTTPS/1, kept alive":       func() client { return &http1Client{addr: address(8443), status: 200, keep: true, tls: secure} },
		"HTTPS/1, one each request": func() client { return &http1Client{addr: address(8443), status: 200, tls: secure} },
		"HTTP/2, frames":            func() client { return &frameClient{addr: address(8443)} },
		"HTTP/2, net/http's POST":   func() client { return newHTTP2Client("https://" + address(8443)) },
	})
}

// http2Client posts a body that net/http's client cannot send again.
type http2Client struct {
	url       string
	transport *http.Transport
}

func newHTTP2Client(url string) *http2Client {
	return &http2Client{url, &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

// newH2CClient speaks HTTP/2 without TLS.
func newH2CClient(url string) *http2Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return &http2Client{url, transport}
}

func (c *http2Client) ask(ctx context.Context) error {
	for {
		err := c.post(ctx)
		if err != errUnsent {
			return err
		}
	}
}

// errUnsent is returned for a request that net/http's client has given up before it wrote anything:
// the connection had its GOAWAY between being chosen and being used. See internal/swaploss.
var errUnsent = errors.New("the request was not sent")

func (c *http2Client) post(ctx context.Context) error {
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}
	body := io.MultiReader(strings.NewReader("body")) // of a type without GetBody
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPost, c.url, body)
	if err != nil {
		return err
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil && !sent.Load() && strings.Contains(err.Error(), "cannot rewind body") {
		return errUnsent
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.ProtoMajor != 2 || response.StatusCode != http.StatusOK {
		return errors.New(response.Proto + " " + response.Status)
	}
	return nil
}

func (c *http2Client) close() { c.transport.CloseIdleConnections() }

func TestWebSocket(t *testing.T) {
	d := start(t, "websocket", []string{"8080"}, "-addr="+address(8080))
	swapUnderLoad(t, d, kinds{"messages": func() client { return &webSocketClient{url: "ws://" + address(8080)} }})
}

// webSocketClient sends messages until it is asked to connect again.
type webSocketClient struct {
	url  string
	conn *websocket.Conn
	sent int
}

func (c *webSocketClient) ask(ctx context.Context) error {
	if c.conn == nil {
		conn, _, err := websocket.Dial(ctx, c.url, nil)
		if err != nil {
			return err
		}
		c.conn = conn
	}
	c.sent++
	message := fmt.Sprint("message ", c.sent)
	if err := c.conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
		c.close()
		return err
	}
	reconnect := false
	for {
		_, answer, err := c.conn.Read(ctx)
		if err != nil {
			c.close()
			return err
		}
		if string(answer) == "reconnect" {
			reconnect = true
			continue
		}
		if reconnect {
			c.conn.Close(websocket.StatusNormalClosure, "")
			c.conn = nil
		}
		if string(answer) != message {
			return fmt.Errorf("got %q", answer)
		}
		return nil
	}
}

func (c *webSocketClient) close() {
	if c.conn != nil {
		c.conn.CloseNow()
		c.conn = nil
	}
}

func TestEventStream(t *testing.T) {
	d := start(t, "eventstream", []string{"8080"}, "-addr="+address(8080))
	swapUnderLoad(t, d, kinds{"events": func() client { return &eventClient{url: "http://" + address(8080)} }})
}

// eventClient reads the next event, on a new stream if the server has ended the last one.
type eventClient struct {
	url    string
	last   int
	stream *http.Response
	lines  *bufio.Reader
}

func (c *eventClient) ask(ctx context.Context) error {
	for {
		if err := c.open(); err != nil {
			return err
		}
		line, err := c.lines.ReadString('\n')
		if err != nil {
			c.close()
			if err == io.EOF && line == "" {
				continue // a clean end
			}
			return err
		}
		var id int
		if _, err := fmt.Sscanf(line, "id: %d", &id); err != nil {
			continue
		}
		if c.last++; id != c.last {
			return fmt.Errorf("event %d instead of %d", id, c.last)
		}
		return nil
	}
}

func (c *eventClient) open() error {
	if c.stream != nil {
		return nil
	}
	request, err := http.NewRequest(http.MethodGet, c.url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Last-Event-ID", fmt.Sprint(c.last))
	transport := &http.Transport{DisableKeepAlives: true}
	if c.stream, err = transport.RoundTrip(request); err != nil {
		return err
	}
	c.lines = bufio.NewReader(c.stream.Body)
	return nil
}

func (c *eventClient) close() {
	if c.stream != nil {
		c.stream.Body.Close()
		c.stream = nil
	}
}

func TestGRPC(t *testing.T) {
	d := start(t, "grpc", []string{"8080"}, "-addr="+address(8080))
	swapUnderLoad(t, d, kinds{
		"one connection a call": func() client { return &grpcClient{} },
		"one connection":        func() client { return &grpcClient{keep: true} },
	})
}

func TestGRPCAndHTTP(t *testing.T) {
	d := start(t, "grpchttp", []string{"8080"})
	swapUnderLoad(t, d, kinds{
		"gRPC, one connection a call": func() client { return &grpcClient{} },
		"gRPC, one connection":        func() client { return &grpcClient{keep: true} },
		"HTTP/1, kept alive":          func() client { return &http1Client{addr: address(8080), status: 200, keep: true} },
		"HTTP/1, one each request":    func() client { return &http1Client{addr: address(8080), status: 200} },
	})
}

type grpcClient struct {
	keep bool
	conn *grpc.ClientConn
}

func (c *grpcClient) ask(ctx context.Context) error {
	if c.conn == nil {
		conn, err := grpc.NewClient("passthrough:"+address(8080), grpc.WithDisableRetry(),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		c.conn = conn
	}
	if !c.keep {
		defer c.close()
	}
	_, err := grpc_health_v1.NewHealthClient(c.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

func (c *grpcClient) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func TestDNS(t *testing.T)        { testDNS(t) }
func TestDNSSteered(t *testing.T) { testDNS(t, "--steer-udp") }

func testDNS(t *testing.T, options ...string) {
	d := start(t, "dns", append(options, "u5300", "5300"), "-addr="+address(5300))
	swapUnderLoad(t, d, kinds{
		"UDP": func() client { return &dnsClient{network: "udp"} },
		"TCP": func() client { return &dnsClient{network: "tcp"} },
	})
}

type dnsClient struct{ network string }

func (c *dnsClient) ask(ctx context.Context) error {
	question := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
	client := &dns.Client{Net: c.network, Timeout: patience}
	reply, _, err := client.ExchangeContext(ctx, question, address(5300))
	if err == nil && len(reply.Answer) != 1 {
		err = fmt.Errorf("%d answers", len(reply.Answer))
	}
	return err
}

func (c *dnsClient) close() {}

func TestTCP(t *testing.T) {
	d := start(t, "tcp", []string{"8080"}, "-addr="+address(8080))
	swapUnderLoad(t, d, kinds{"one connection a line": func() client { return tcpClient{} }})
}

type tcpClient struct{}

func (tcpClient) ask(ctx context.Context) error {
	conn, err := dial(ctx, address(8080))
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintln(conn, "line")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "line\n" {
		return fmt.Errorf("got %q, %v", line, err)
	}
	return nil
}

func (tcpClient) close() {}

// certificate writes a certificate for this test.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	certPEM, keyPEM, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(os.WriteFile(cert, certPEM, 0o600), os.WriteFile(key, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	return cert, key
}
