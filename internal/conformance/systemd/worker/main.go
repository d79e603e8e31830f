// Command worker is the application of the unit files. It answers with its generation, its pid and
// its user ID. It does not become ready while the file /run/gate exists.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	for closed("/run/gate") {
		time.Sleep(5 * time.Millisecond)
	}
	generation, _ := listener.Generation() // 0 without start_server
	answer := fmt.Sprintln(generation, os.Getpid(), os.Getuid())
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, answer) })
	if err := graceful.ListenAndServe(&http.Server{Addr: ":8080"}); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func closed(gate string) bool {
	_, err := os.Stat(gate)
	return err == nil
}
