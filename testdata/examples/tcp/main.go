// Command tcp is a server with a protocol of its own: it sends back each line.
//
//	start_server --port=8080 -- tcp
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

// grace is how long a client may stay without sending a line, once the server has to go.
const grace = 5 * time.Second

func main() {
	addr := flag.String("addr", ":8080", "address to listen on")
	flag.Parse()
	l, err := listener.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	g := graceful.Group{Logf: log.Printf}
	g.AddListener(l, func(l net.Listener) error { return serve(l, g.Draining()) }, nil)
	if err := g.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// serve returns when the listener was closed and all connections have ended.
func serve(l net.Listener, draining <-chan struct{}) error {
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		connections.Go(func() { echo(conn, draining) })
	}
}

func echo(conn net.Conn, draining <-chan struct{}) {
	defer conn.Close()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-draining:
			conn.SetReadDeadline(time.Now().Add(grace))
		case <-ended:
		}
	}()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		fmt.Fprintln(conn, lines.Text())
	}
}
