//go:build go1.27

package graceful

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
)

// Since Go 1.27 net/http serves HTTP/2 on any connection that Accept returns: over TLS if it has
// the methods ConnectionState and HandshakeContext, without TLS if the server's Protocols say so.
// So the acceptor returns connections that follow the frames.

const (
	protoHTTP1 = "http/1.1"
	protoHTTP2 = "h2"
)

// takeOverHTTP2 makes the acceptors return connections that follow the frames of HTTP/2, over TLS
// by a listener of its own. A server of which the program has filled in TLSNextProto, whose functions
// take nothing but a tls.Conn, is left as it is.
func (s *httpServer) takeOverHTTP2() {
	if s.secure && len(s.srv.TLSNextProto) > 0 {
		return
	}
	s.prime()
	s.http2 = true
	wrap := s.follow
	if s.secure {
		config := s.tlsConfig()
		wrap = func(conn net.Conn) net.Conn { return s.followTLS(tls.Server(conn, config)) }
		s.accept = s.srv.Serve
	}
	for _, a := range s.acceptors {
		a.wrap = wrap
	}
}

// tlsConfig is that of http.Server.ServeTLS, with HTTP/2 if net/http has prepared for it.
func (s *httpServer) tlsConfig() *tls.Config {
	config := &tls.Config{}
	if s.srv.TLSConfig != nil {
		config = s.srv.TLSConfig.Clone()
	}
	_, http2 := s.srv.TLSNextProto[protoHTTP2]
	http1 := true
	if p := s.srv.Protocols; p != nil {
		http2 = p.HTTP2()
		http1 = p.HTTP1() || !http2
	}
	others := slices.DeleteFunc(slices.Clone(config.NextProtos), func(p string) bool { return p == protoHTTP2 || p == protoHTTP1 })
	config.NextProtos = nil
	if http2 {
		config.NextProtos = append(config.NextProtos, protoHTTP2)
	}
	if http1 {
		config.NextProtos = append(config.NextProtos, protoHTTP1)
	}
	config.NextProtos = append(config.NextProtos, others...)
	return config
}

func (s *httpServer) followTLS(conn *tls.Conn) net.Conn {
	c := &followedTLSConn{&followedConn{http2Conn: &http2Conn{Conn: conn}, connections: &s.connections}, conn}
	c.self = c
	return c
}

type followedTLSConn struct {
	*followedConn
	secure *tls.Conn
}

func (c *followedTLSConn) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }

func (c *followedTLSConn) HandshakeContext(ctx context.Context) error {
	err := c.secure.HandshakeContext(ctx)
	if err == nil && c.secure.ConnectionState().NegotiatedProtocol == protoHTTP2 {
		c.begin()
	}
	return err
}
