// Command worker is a graceful server that answers with its generation and its pid, each after up
// to 20 ms. It is ready when there is no file "gate" in its directory, and leaves its address in
// the file "address".
package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func serve() error {
	for shut("gate") {
		time.Sleep(5 * time.Millisecond)
	}
	listeners, err := listener.ListenAll()
	if err != nil {
		return err
	}
	if _, err := os.Stat("address"); err != nil { // once: a later worker may find the disk full
		if err := os.WriteFile("address", []byte(listeners[0].Addr().String()), 0o600); err != nil {
			return err
		}
	}
	generation, _ := listener.Generation() // set wherever ListenAll works
	answer := fmt.Sprintln(generation, os.Getpid())
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(rand.N(20 * time.Millisecond))
		fmt.Fprint(w, answer)
	})}
	return graceful.Serve(server, listeners...)
}

func shut(gate string) bool {
	_, err := os.Stat(gate)
	return err == nil
}
