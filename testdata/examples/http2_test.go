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

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frameClient asks by HTTP/2, one request at a time on its connection, until that has a GOAWAY.
// Unlike net/http's client it never sends a request again, and never gives one up unsent.
type frameClient struct {
	addr   string
	conn   net.Conn
	framer *http2.Framer
	stream uint32 // of the last request
	goAway bool
}

func (c *frameClient) ask(ctx context.Context) error {
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			c.close()
			return fmt.Errorf("connect: %w", err)
		}
	}
	c.stream += 2
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: c.stream, BlockFragment: requestHeaders(c.addr), EndStream: true, EndHeaders: true,
	})
	if err != nil {
		c.close()
		return err
	}
	for done := false; !done; {
		if done, err = c.read(); err != nil {
			c.close()
			return err
		}
	}
	if c.goAway {
		c.close()
	}
	return nil
}

func (c *frameClient) connect(ctx context.Context) error {
	conn, err := dial(ctx, c.addr)
	if err != nil {
		return err
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	c.conn, c.framer, c.stream, c.goAway = secure, http2.NewFramer(secure, secure), ^uint32(0), false
	if _, err := io.WriteString(secure, http2.ClientPreface); err != nil {
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
