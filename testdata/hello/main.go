// Command hello is the smallest web server that loses no request under start_server. It answers
// with its generation and pid.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	generation, _ := listener.Generation()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from generation %d, pid %d\n", generation, os.Getpid())
	})
	if err := graceful.ListenAndServe(&http.Server{Addr: ":8080"}); err != nil {
		log.Fatal(err)
	}
}
