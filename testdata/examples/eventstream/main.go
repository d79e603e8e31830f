// Command eventstream sends each client an event every 100 ms, numbered on from the last one that
// it has seen. When the server has to go it ends the streams, on which clients connect again by
// themselves, and so reach the next generation.
//
//	start_server --port=8080 -- eventstream
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"time"

	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	addr := flag.String("addr", ":8080", "address to listen on, if not run by start_server")
	flag.Parse()
	server := &http.Server{Addr: *addr, Handler: http.HandlerFunc(stream)}
	if err := graceful.ListenAndServe(server); err != nil {
		log.Fatal(err)
	}
}

func stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for id := last + 1; ; id++ {
		fmt.Fprintf(w, "id: %d\ndata: %s\n\n", id, time.Now().Format(time.RFC3339Nano))
		w.(http.Flusher).Flush()
		select {
		case <-tick.C:
		case <-graceful.Draining(r.Context()):
			return
		case <-r.Context().Done():
			return
		}
	}
}
