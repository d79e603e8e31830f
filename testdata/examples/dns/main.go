// Command dns answers every question for an address with 192.0.2.1, over UDP and TCP.
//
//	start_server --port=u53 --port=53 -- dns
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"time"

	"github.com/miekg/dns"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	addr := flag.String("addr", ":53", "address to listen on")
	flag.Parse()
	packets, err := listener.ListenPacket("udp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	l, err := listener.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	handler := dns.HandlerFunc(answer)
	g := graceful.Group{Logf: log.Printf}

	// All generations read from the same UDP socket, or each from its own under --steer-udp.
	// ShutdownContext ends the reading by a deadline and answers what was read. To close the socket
	// first would lose those answers.
	udp := &dns.Server{PacketConn: packets, Handler: handler}
	g.Add(udp.ActivateAndServe, udp.ShutdownContext)

	// ShutdownContext would drop TCP connections whose question has not been read. If only the
	// listener is closed, each connection lives until its client closes it or is idle for
	// IdleTimeout.
	idle := func() time.Duration { return 2 * time.Second }
	g.AddListener(l, func(l net.Listener) error {
		tcp := &dns.Server{Listener: l, Handler: handler, IdleTimeout: idle}
		return tcp.ActivateAndServe()
	}, nil)
	if err := g.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func answer(w dns.ResponseWriter, question *dns.Msg) {
	reply := new(dns.Msg).SetReply(question)
	for _, q := range question.Question {
		if q.Qtype == dns.TypeA {
			header := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: net.IPv4(192, 0, 2, 1)})
		}
	}
	w.WriteMsg(reply)
}
