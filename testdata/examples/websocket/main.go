// Command websocket echoes the messages of WebSocket clients. When it has to go, it sends them the
// message "reconnect" and answers until they have closed, so that no message crosses the close. A
// client that does not understand the message is cut off when DrainTimeout is over.
//
//	start_server --port=8080 -- websocket
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	addr := flag.String("addr", ":8080", "address to listen on")
	flag.Parse()
	g := graceful.Group{DrainTimeout: time.Minute, Logf: log.Printf}
	g.AddHTTP(&http.Server{Addr: *addr, Handler: http.HandlerFunc(serve)})
	if err := g.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func serve(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-graceful.Draining(r.Context()):
			conn.Write(r.Context(), websocket.MessageText, []byte("reconnect"))
		case <-ended:
		}
	}()
	for {
		kind, message, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		if err := conn.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}
