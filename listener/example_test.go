//go:build unix

package listener_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/start-server/start-server/listener"
)

// An HTTP server that serves on everything that start_server binds. Package graceful does this and
// stops without losing a request.
func Example_http() {
	sockets, err := listener.ListenAll()
	if err == listener.ErrNoListeningTarget { // started by hand
		var l net.Listener
		l, err = net.Listen("tcp", "127.0.0.1:0")
		sockets = []net.Listener{l}
	}
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
	})}
	for _, l := range sockets {
		go server.Serve(l)
	}
	if err := listener.Ready(); err != nil {
		log.Fatal(err)
	}

	// From here on it is a client, for the sake of the example.
	response, err := http.Get("http://" + sockets[0].Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	fmt.Println(string(body))
	// Output: hello
}

// A server with a protocol of its own: on TERM it stops accepting and lets every connection that it
// has accepted end.
func Example_tcp() {
	l, err := listener.Listen("tcp", "127.0.0.1:0") // ":7", the address that start_server is given
	if err != nil {
		log.Fatal(err)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		l.Close() // Accept fails from now on; what waits in the queue is for the next generation
	}()
	if err := listener.Ready(); err != nil {
		log.Fatal(err)
	}
	go client(l.Addr())

	var connections sync.WaitGroup
	for {
		conn, err := l.Accept()
		if err != nil {
			break
		}
		connections.Go(func() {
			defer conn.Close()
			io.Copy(conn, conn)
		})
	}
	connections.Wait()
	fmt.Println("all connections have ended")
	// Output:
	// echoed: word
	// all connections have ended
}

// client sends a word and then, in the place of start_server, TERM.
func client(addr net.Addr) {
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		log.Fatal(err)
	}
	io.WriteString(conn, "word")
	word := make([]byte, 4)
	io.ReadFull(conn, word)
	fmt.Printf("echoed: %s\n", word)
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	conn.Close()
}

// A UDP server. All generations read from the same socket, and each datagram is for one of them. So
// the old one only has to finish with the datagram that it holds.
func Example_udp() {
	conn, err := listener.ListenPacket("udp", "127.0.0.1:0") // start_server --port=u53: ":53"
	if err != nil {
		log.Fatal(err)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		conn.SetReadDeadline(time.Now()) // not Close: the last answer is still to be sent
	}()
	if err := listener.Ready(); err != nil {
		log.Fatal(err)
	}
	go ask(conn.LocalAddr())

	datagram := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(datagram)
		if err != nil {
			break
		}
		conn.WriteTo(datagram[:n], from)
	}
	conn.Close()
	fmt.Println("every datagram was answered")
	// Output:
	// answered: word
	// every datagram was answered
}

// ask sends a datagram and then, in the place of start_server, TERM.
func ask(addr net.Addr) {
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "word")
	word := make([]byte, 4)
	io.ReadFull(conn, word)
	fmt.Printf("answered: %s\n", word)
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
}

// What was passed, without opening it.
func ExamplePorts() {
	os.Setenv("SERVER_STARTER_PORT", "80=3;[::1]:8080=4;/run/app.sock=5")
	defer os.Unsetenv("SERVER_STARTER_PORT")
	targets, err := listener.Ports()
	if err != nil {
		log.Fatal(err)
	}
	for _, target := range targets {
		switch target := target.(type) {
		case listener.TCPListener:
			fmt.Println("port", target.Port, "of", target.Addr)
		case listener.UnixListener:
			fmt.Println("path", target.Path)
		}
	}
	// Output:
	// port 80 of 0.0.0.0
	// port 8080 of ::1
	// path /run/app.sock
}

// What a server starts before it listens inherits its sockets and can report READY=1 in its place,
// unless the environment was cleared first.
func ExampleUnsetEnv() {
	if err := listener.UnsetEnv(); err != nil { // the first line of main
		log.Fatal(err)
	}
	helper := exec.Command("sh", "-c", "echo port: $SERVER_STARTER_PORT, notify: $NOTIFY_SOCKET")
	helper.Stdout = os.Stdout
	if err := helper.Run(); err != nil {
		log.Fatal(err)
	}
	l, err := listener.Listen("tcp", "127.0.0.1:0") // the one that start_server passed
	if err != nil {
		log.Fatal(err)
	}
	l.Close()
	// Output: port: , notify:
}
