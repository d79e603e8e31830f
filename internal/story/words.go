package story

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: await FILE REGEXP [COUNT]")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	count := 1
	if len(args) == 3 {
		count, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	file := ts.MkAbs(args[0])
	waitFor(ts, func() bool {
		text, err := os.ReadFile(file)
		return err == nil && len(pattern.FindAllIndex(text, -1)) >= count
	}, func() string {
		return fmt.Sprintf("%s does not match %q %d times:\n%s", args[0], args[1], count, show(ts, args[0]))
	})
}

func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone FILE")
	}
	waitFor(ts, func() bool {
		_, err := os.Lstat(ts.MkAbs(args[0]))
		return os.IsNotExist(err)
	}, func() string { return args[0] + " is still there" })
}

// waitFor waits until the condition holds, or fails with what went wrong.
func waitFor(ts *testscript.TestScript, condition func() bool, wrong func() string) {
	deadline := time.Now().Add(patience(ts))
	for !condition() {
		if time.Now().After(deadline) {
			ts.Fatalf("%s", wrong())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func patience(ts *testscript.TestScript) time.Duration {
	d, err := time.ParseDuration(ts.Getenv("PATIENCE"))
	ts.Check(err)
	return d
}

// show is the content of a file, if there is one.
func show(ts *testscript.TestScript, file string) string {
	text, err := os.ReadFile(ts.MkAbs(file))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func write(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: write FILE LINE...")
	}
	text := ""
	for _, line := range args[1:] {
		text += line + "\n"
	}
	file := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(file+".new", []byte(text), 0o666))
	ts.Check(os.Rename(file+".new", file))
}

func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: fetch ADDRESS PATH")
	}
	network, address := locate(ts, args[0])
	answer, err := ask(network, address, args[1], patience(ts))
	if neg != (err != nil) {
		ts.Fatalf("fetch %s from %s %s: %q, %v", args[1], network, address, answer, err)
	}
	fmt.Fprint(ts.Stdout(), answer)
}

// ask gets a page, or over UDP the answer to one packet.
func ask(network, address, what string, limit time.Duration) (string, error) {
	conn, err := net.DialTimeout(network, address, limit)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	if network == "udp" {
		buf := make([]byte, 1500)
		if _, err := io.WriteString(conn, what); err != nil {
			return "", err
		}
		n, err := conn.Read(buf)
		return string(buf[:n]), err
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}}
	response, err := client.Get("http://localhost" + what)
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
	network, address := locate(ts, args[0])
	conn, err := net.DialTimeout(network, address, patience(ts))
	if err == nil {
		conn.Close()
	}
	if neg != (err != nil) {
		ts.Fatalf("dial %s %s: %v", network, address, err)
	}
}

// locate finds out how to reach what is named by a unix socket or by a file with "NETWORK ADDRESS" in it. Other
// machines' loopback is no concern of ours: the address of all interfaces is answered on 127.0.0.1.
func locate(ts *testscript.TestScript, name string) (network, address string) {
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
