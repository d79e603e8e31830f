// Command https serves a site on HTTPS and redirects to it from HTTP: two servers in one process,
// which are ready together and stop together.
//
//	start_server --port=80 --port=443 -- https -cert cert.pem -key key.pem
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	addr := flag.String("http", ":80", "address for HTTP")
	secure := flag.String("https", ":443", "address for HTTPS")
	cert := flag.String("cert", "cert.pem", "certificate")
	key := flag.String("key", "key.pem", "key of the certificate")
	flag.Parse()

	redirect := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+r.Host+r.RequestURI, http.StatusMovedPermanently)
	})
	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello over", r.Proto)
	})

	g := graceful.Group{DrainTimeout: time.Minute, Logf: log.Printf}
	g.AddHTTP(&http.Server{Addr: *addr, Handler: redirect})
	g.AddHTTPS(&http.Server{Addr: *secure, Handler: site}, *cert, *key)
	if err := g.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
