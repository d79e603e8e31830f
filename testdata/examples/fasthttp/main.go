// Command fasthttp is a web server on fasthttp.
//
//	start_server --port=8080 -- fasthttp
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

// grace is how long clients may keep a connection open without a further request.
const grace = 5 * time.Second

func main() {
	addr := flag.String("addr", ":8080", "address to listen on")
	flag.Parse()
	l, err := listener.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	generation, _ := listener.Generation()
	g := graceful.Group{Logf: log.Printf}
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		fmt.Fprintln(ctx, "hello from generation", generation)
		select {
		case <-g.Draining():
			ctx.SetConnectionClose()
		default:
		}
	}}
	g.AddListener(l, server.Serve, func(ctx context.Context) error {
		// Shutdown closes idle connections, on which a request may be on its way: first let clients
		// learn of Connection: close.
		for end := time.Now().Add(grace); server.GetOpenConnectionsCount() > 0 && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		return server.ShutdownWithContext(ctx)
	})
	if err := g.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
