//go:build unix

package graceful_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

func ExampleListenAndServe() {
	server := &http.Server{
		Addr: "127.0.0.1:0", // if it is not run under start_server
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "hello")
		}),
	}

	// For the sake of the example, TERM arrives as soon as it serves.
	server.BaseContext = func(net.Listener) context.Context {
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
		return context.Background()
	}

	if err := graceful.ListenAndServe(server); err != nil {
		log.Fatal(err)
	}
	fmt.Println("all requests are answered")
	// Output: all requests are answered
}

// One server on one of several sockets.
func ExampleServe() {
	l, err := net.Listen("tcp", "127.0.0.1:0") // or listener.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		syscall.Kill(os.Getpid(), syscall.SIGTERM) // arrives during the request, which is answered
		fmt.Fprint(w, "hello")
	})}
	answer := make(chan string, 1)
	go func() { answer <- get(l.Addr()) }()
	if err := graceful.Serve(server, l); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-answer)
	// Output: hello
}

func get(addr net.Addr) string {
	response, err := http.Get("http://" + addr.String())
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return strings.TrimSpace(string(body))
}

// A site and its administration, each on an address of its own: they are ready together, and stop
// together.
func ExampleGroup() {
	hello := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello from", name) })
	}
	ctx, stop := context.WithCancel(context.Background())
	g := graceful.Group{
		DrainTimeout: time.Minute,
		BeforeReady: func(context.Context) error { // warm up the caches here
			fmt.Println("all servers serve")
			stop() // for the sake of the example; SIGTERM does the same
			return nil
		},
	}
	g.AddHTTP(&http.Server{Addr: "127.0.0.1:0", Handler: hello("site")})  // ":80"
	g.AddHTTP(&http.Server{Addr: "127.0.0.1:0", Handler: hello("admin")}) // ":8081"; AddHTTPS for HTTPS
	if err := g.Run(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("both have ended")
	// Output:
	// all servers serve
	// both have ended
}

// A server with a protocol of its own. Serve returns when the listener was closed and all
// connections have ended, so no function that stops it is needed. A gRPC server is added like this:
//
//	g.AddListener(l, server.Serve, func(context.Context) error {
//		server.GracefulStop()
//		return nil
//	})
func ExampleGroup_AddListener() {
	l, err := listener.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var g graceful.Group
	g.AddListener(l, func(l net.Listener) error {
		var connections sync.WaitGroup
		defer connections.Wait()
		for {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			connections.Go(func() {
				defer conn.Close()
				io.Copy(conn, conn)
			})
		}
	}, nil)

	go func() { // a client
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintln(conn, "word")
		line, _ := bufio.NewReader(conn).ReadString('\n')
		stop()
		fmt.Print("echoed: ", line)
		conn.Close()
	}()
	if err := g.Run(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("all connections have ended")
	// Output:
	// echoed: word
	// all connections have ended
}

// A UDP server. All generations read from the same socket, each datagram is for one of them, and
// the old one only has to answer the datagram that it holds.
func ExampleGroup_Add() {
	conn, err := listener.ListenPacket("udp", "127.0.0.1:0") // start_server --port=u53: ":53"
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var g graceful.Group
	g.Add(func() error {
		defer conn.Close()
		datagram := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(datagram)
			if err != nil {
				return nil // the deadline
			}
			conn.WriteTo(datagram[:n], from)
		}
	}, func(context.Context) error {
		return conn.SetReadDeadline(time.Now()) // not Close: the last answer is still to be sent
	})

	go func() { // a client
		client, err := net.Dial("udp", conn.LocalAddr().String())
		if err != nil {
			log.Fatal(err)
		}
		io.WriteString(client, "word")
		word := make([]byte, 4)
		io.ReadFull(client, word)
		fmt.Printf("answered: %s\n", word)
		stop()
	}()
	if err := g.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: answered: word
}

// An event stream, which never ends by itself.
func ExampleDraining() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stream := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "data: an event")
		w.(http.Flusher).Flush()
		stop() // for the sake of the example
		select {
		case <-graceful.Draining(r.Context()): // clients connect again
		case <-r.Context().Done():
		}
	}
	answer := make(chan string, 1)
	go func() { answer <- get(l.Addr()) }()
	g := graceful.Group{Grace: time.Second}
	g.AddHTTP(&http.Server{Handler: http.HandlerFunc(stream)}, l)
	if err := g.Run(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-answer)
	// Output: data: an event
}
