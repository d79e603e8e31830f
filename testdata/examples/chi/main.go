// Command chi is a web server on chi. A chi.Mux is an http.Handler.
//
//	start_server --port=8080 -- chi
package main

import (
	"io"
	"log"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	router := chi.NewRouter()
	router.Get("/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	if err := graceful.ListenAndServe(&http.Server{Addr: ":8080", Handler: router}); err != nil {
		log.Fatal(err)
	}
}
