// Command nethttp is a web server on net/http.
//
//	start_server --port=8080 -- nethttp
package main

import (
	"fmt"
	"log"
	"net/http"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	generation, _ := listener.Generation()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello from generation", generation)
	})
	// Every socket that start_server passes, or :8080 if the program was started by hand.
	if err := graceful.ListenAndServe(&http.Server{Addr: ":8080"}); err != nil {
		log.Fatal(err)
	}
}
