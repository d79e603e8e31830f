// Command grpchttp serves HTTP and gRPC on one port. A grpc.Server is an http.Handler, and net/http
// speaks HTTP/2 without TLS, so nothing has to look into the connections before: cmux, which does,
// drops those that it looks into while it stops.
//
//	start_server --port=8080 -- grpchttp
package main

import (
	"fmt"
	"log"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	rpc := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(rpc, health.NewServer())
	site := http.NewServeMux()
	site.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello over", r.Proto) })

	both := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			rpc.ServeHTTP(w, r)
			return
		}
		site.ServeHTTP(w, r)
	})
	server := &http.Server{Addr: ":8080", Handler: both, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	if err := graceful.ListenAndServe(server); err != nil {
		log.Fatal(err)
	}
}
