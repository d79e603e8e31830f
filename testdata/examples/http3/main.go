// Command http3 serves a site on HTTP/1, HTTP/2 and HTTP/3, on TCP and UDP ports of the same number.
//
//	start_server --steer-udp --port=443 --port=u443 -- http3 -cert cert.pem -key key.pem
package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

// handshakeTime is how long this generation finishes handshakes after it was told to stop. The first
// packets of connections reach the next generation by then, all others still come here.
const handshakeTime = 2 * time.Second

func main() {
	addr := flag.String("addr", ":443", "address to listen on")
	cert := flag.String("cert", "cert.pem", "certificate")
	key := flag.String("key", "key.pem", "key of the certificate")
	flag.Parse()
	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wait, err := time.ParseDuration(r.FormValue("wait")); err == nil {
			time.Sleep(min(wait, time.Minute))
		}
		fmt.Fprintln(w, "hello over", r.Proto)
	})
	h3 := &http3.Server{Handler: site}
	ln, err := listenQUIC(*addr, *cert, *key)
	if err != nil {
		log.Fatal(err)
	}

	g := graceful.Group{DrainTimeout: time.Minute, Logf: log.Printf}
	g.Add(func() error { return h3.ServeListener(ln) }, func(ctx context.Context) error {
		select {
		case <-time.After(handshakeTime):
		case <-ctx.Done():
		}
		return h3.Shutdown(ctx) // sends GOAWAY and waits until the clients have closed their connections
	})
	g.AddHTTPS(&http.Server{Addr: *addr, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = h3.SetQUICHeaders(w.Header()) // Alt-Svc: the browser comes by HTTP/3 the next time
		site.ServeHTTP(w, r)
	})}, *cert, *key)
	if err := g.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// listenQUIC listens on the UDP socket that was passed for addr.
func listenQUIC(addr, cert, key string) (*quic.EarlyListener, error) {
	packets, err := listener.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	secret, err := os.ReadFile(key)
	if err != nil {
		return nil, err
	}
	// All generations have the same keys for what a client brings from its last connection, for 0-RTT
	// among other things. Sites with several machines give them a secret of their own.
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	config.SetSessionTicketKeys([][32]byte{derive(secret, "tickets")})
	token, reset := quic.TokenGeneratorKey(derive(secret, "tokens")), quic.StatelessResetKey(derive(secret, "resets"))
	transport := &quic.Transport{
		Conn:                  packets,
		ConnectionIDGenerator: connectionIDs{},
		TokenGeneratorKey:     &token,
		StatelessResetKey:     &reset,
	}
	return transport.ListenEarly(http3.ConfigureTLSConfig(config), &quic.Config{Allow0RTT: true})
}

func derive(secret []byte, purpose string) [32]byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(purpose))
	return [32]byte(mac.Sum(nil))
}

// connectionIDs begin with the generation, so that --steer-udp finds it.
type connectionIDs struct{}

func (connectionIDs) ConnectionIDLen() int { return 12 }

func (c connectionIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	id := make([]byte, c.ConnectionIDLen())
	rand.Read(id)
	if prefix, ok := listener.ConnectionIDPrefix(); ok {
		copy(id, prefix[:])
	}
	return quic.ConnectionIDFromBytes(id), nil
}
