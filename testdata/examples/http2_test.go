//go:build linux

package examples

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frameClient asks by HTTP/2 until its connection has a GOAWAY, several requests at a time, which
// count as one. Unlike net/http's client it never sends a request again, and never gives one up
// unsent.
type frameClient struct {
	addr   string
	plain  bool // without TLS
	conn   net.Conn
	framer *http2.Framer
	stream uint32 // of the last request
	goAway bool
}

const atATime = 4

func (c *frameClient) ask(ctx context.Context) error {
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			c.close()
			return fmt.Errorf("connect: %w", err)
		}
	}
	err := c.exchange()
	if err != nil || c.goAway {
		c.close()
	}
	return err
}

func (c *frameClient) exchange() error {
	for range atATime {
		c.stream += 2
		err := c.framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: c.stream, BlockFragment: requestHeaders(c.addr), EndStream: true, EndHeaders: true,
		})
		if err != nil {
			return err
		}
	}
	for answered := 0; answered < atATime; {
		done, err := c.read()
		if err != nil {
			return err
		}
		if done {
			answered++
		}
	}
	return nil
}

func (c *frameClient) connect(ctx context.Context) error {
	conn, err := dial(ctx, c.addr)
	if err != nil {
		return err
	}
	if !c.plain {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	c.conn, c.framer, c.stream, c.goAway = conn, http2.NewFramer(conn, conn), ^uint32(0), false
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	return c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
}

// read reads a frame and reports whether it is the last of the answer.
func (c *frameClient) read() (done bool, err error) {
	frame, err := c.framer.ReadFrame()
	if err != nil {
		return false, err
	}
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			return false, c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			return false, c.framer.WritePing(true, frame.Data)
		}
	case *http2.GoAwayFrame:
		c.goAway = true
		if frame.LastStreamID < c.stream {
			return false, errors.New("GOAWAY that refuses the request")
		}
	case *http2.RSTStreamFrame:
		return false, errors.New(frame.ErrCode.String())
	case *http2.DataFrame:
		if n := frame.Length; n > 0 {
			if err := c.framer.WriteWindowUpdate(0, n); err != nil {
				return false, err
			}
		}
		return frame.StreamEnded(), nil
	case *http2.HeadersFrame:
		return frame.StreamEnded(), nil
	}
	return false, nil
}

func (c *frameClient) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func requestHeaders(authority string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{
		{":method", "GET"}, {":scheme", "https"}, {":authority", authority}, {":path", "/"},
	} {
		encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	return block.Bytes()
}

// TestH2load loads with nghttp2's client, which repeats nothing either, several requests at a time
// on each connection. What it counts as lost does not fail the test: it includes requests that it
// had queued when GOAWAY arrived in the same read as the answers before it, and so did not send.
func TestH2load(t *testing.T) {
	h2load, err := exec.LookPath("h2load")
	if err != nil {
		t.Skip("needs h2load, of Debian's nghttp2-client")
	}
	cert, key := certificate(t)
	d := start(t, "https", []string{"8080", "8443"},
		"-http="+address(8080), "-https="+address(8443), "-cert="+cert, "-key="+key)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan tally)
	go func() {
		line := tally{example: t.Name(), clients: "HTTP/2, four at a time", reasons: make(map[string]int)}
		for ctx.Err() == nil {
			line.addH2load(exec.Command(h2load, "-D1", "-c4", "-m4", "https://"+address(8443)+"/").Output())
		}
		result <- line
	}()
	for range *swaps {
		time.Sleep(100 * time.Millisecond) // each generation serves for a while
		d.swap()
	}
	cancel()
	line := <-result
	if line.sent == line.lost {
		t.Errorf("no answers: %v", line.reasons)
	}
	line.add()
}

// addH2load adds what a run of h2load reports. By time (-D) it connects again if it is asked to go;
// by number (-n) it does not.
func (line *tally) addH2load(out []byte, err error) {
	_, report, _ := strings.Cut(string(out), "\nrequests: ")
	var total, started, done, succeeded int
	_, scanErr := fmt.Sscanf(report, "%d total, %d started, %d done, %d succeeded", &total, &started, &done, &succeeded)
	line.sent += total
	line.lost += total - succeeded
	if err := errors.Join(err, scanErr); err != nil {
		line.lost++
		line.reasons[err.Error()]++
	}
}
