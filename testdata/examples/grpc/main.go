// Command grpc is a gRPC server with the standard health service.
//
//	start_server --port=8080 -- grpc
package main

import (
	"context"
	"flag"
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	addr := flag.String("addr", ":8080", "address to listen on")
	flag.Parse()
	l, err := listener.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())

	// The group closes the listener before it calls GracefulStop, which by itself drops connections
	// that are just being made. Streams that never end hold it until DrainTimeout, if one is set.
	g := graceful.Group{Logf: log.Printf}
	g.AddListener(l, server.Serve, func(context.Context) error {
		server.GracefulStop()
		return nil
	})
	if err := g.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
