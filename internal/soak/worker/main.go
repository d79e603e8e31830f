// Command worker is a graceful server that answers with its generation and its pid, each after up
// to 20 ms. It is ready when there is no file "gate" in its directory, whose text says what it does
// until then, and leaves its address in the file "address".
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
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
	wait("gate")
	listeners, err := listener.ListenAll()
	if err != nil {
		return err
	}
	packets, err := listener.ListenPacketAll()
	if err != nil && !errors.Is(err, listener.ErrNoListeningTarget) {
		return err
	}
	if _, err := os.Stat("address"); err != nil { // once: a later worker may find the disk full
		if err := os.WriteFile("address", []byte(listeners[0].Addr().String()), 0o600); err != nil {
			return err
		}
	}
	generation, _ := listener.Generation() // set wherever ListenAll works
	answer := fmt.Sprintln(generation, os.Getpid())
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(rand.N(20 * time.Millisecond))
		fmt.Fprint(w, answer)
	})
	mux.HandleFunc("/flood", func(http.ResponseWriter, *http.Request) { go flood(3 * time.Second) })
	var group graceful.Group
	group.AddHTTP(&http.Server{Handler: mux}, listeners...)
	for _, conn := range packets {
		s := &steered{conn: conn}
		group.Add(s.serve, s.stop)
	}
	return group.Run(context.Background())
}

// wait returns when there is no gate.
func wait(gate string) {
	for ; ; time.Sleep(5 * time.Millisecond) {
		switch text, err := os.ReadFile(gate); {
		case err != nil:
			return
		case string(text) == "hang":
			signal.Ignore(syscall.SIGTERM)
			time.Sleep(time.Hour)
		case string(text) == "children":
			if child := exec.Command("/bin/true"); child.Start() == nil {
				go child.Wait()
			}
		case string(text) == "flood":
			flood(10 * time.Millisecond)
		}
	}
}

// flood sends messages as fast as it can.
func flood(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if listener.Notify(fmt.Sprintf("STATUS=%d messages", rand.Int())) != nil {
			return
		}
	}
}
