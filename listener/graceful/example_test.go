//go:build unix

package graceful_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/start-server/start-server/listener/graceful"
)

func ExampleListenAndServe() {
	server := &http.Server{
		Addr: "127.0.0.1:0", // where it is not run under start_server
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "hello")
		}),
	}

	// In the place of start_server, for the sake of the example: TERM as soon as it serves.
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
		syscall.Kill(os.Getpid(), syscall.SIGTERM) // the request comes first, and is answered
		fmt.Fprint(w, "hello")
	})}
	answer := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		http.DefaultClient.CloseIdleConnections()
		answer <- string(body)
	}()
	if err := graceful.Serve(server, l); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-answer)
	// Output: hello
}
