package scripttest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: fetch ADDRESS PATH")
	}
	network, address := resolve(ts, args[0])
	answer, err := request(network, address, args[1], timeout(ts))
	if neg != (err != nil) {
		ts.Fatalf("fetch %s from %s %s: %q, %v", args[1], network, address, answer, err)
	}
	fmt.Fprint(ts.Stdout(), answer)
}

// request returns the page at path or, over UDP, the answer to a packet that contains path, in
// which \x01 stands for a byte.
func request(network, address, path string, limit time.Duration) (string, error) {
	conn, err := net.DialTimeout(network, address, limit)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	if network == "udp" {
		buf := make([]byte, 1500)
		packet, err := strconv.Unquote(`"` + path + `"`)
		if err != nil {
			return "", err
		}
		if _, err := io.WriteString(conn, packet); err != nil {
			return "", err
		}
		n, err := conn.Read(buf)
		return string(buf[:n]), err
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}}
	response, err := client.Get("http://localhost" + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func dial(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: dial ADDRESS")
	}
	network, address := resolve(ts, args[0])
	conn, err := net.DialTimeout(network, address, timeout(ts))
	if err == nil {
		conn.Close()
	}
	if neg != (err != nil) {
		ts.Fatalf("dial %s %s: %v", network, address, err)
	}
}

// resolve returns the address for an ADDRESS of a script: a unix socket, or a file with "NETWORK
// ADDRESS" in it. For a server on all interfaces it returns the loopback address.
func resolve(ts *testscript.TestScript, name string) (network, address string) {
	file := ts.MkAbs(name)
	if info, err := os.Stat(file); err != nil || info.Mode()&os.ModeSocket != 0 {
		return "unix", file
	}
	network, address, ok := strings.Cut(strings.TrimSpace(ts.ReadFile(name)), " ")
	if !ok {
		ts.Fatalf("%s is neither a socket nor a file with an address", name)
	}
	if network == "unix" {
		address = ts.MkAbs(address)
	}
	return network, strings.Replace(address, "0.0.0.0:", "127.0.0.1:", 1)
}
