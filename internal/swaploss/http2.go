package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/start-server/start-server/internal/load"
)

// clientsPerConnection is how many clients share an HTTP/2 connection, so that requests cross its
// GOAWAY.
const clientsPerConnection = 8

// loadHTTP2 is load.Run over HTTP/2. net/http's client repeats requests that the server has not
// taken, but not a POST with a body that it cannot read again.
func loadHTTP2(ctx context.Context, protocol, address string, clients int, pause time.Duration,
	check func(*http.Response, []byte) error) load.Result {
	var total load.Result
	var mu sync.Mutex
	var running sync.WaitGroup
	var transport *http.Transport
	for i := range clients {
		if i%clientsPerConnection == 0 {
			transport = newTransport(protocol)
			defer transport.CloseIdleConnections()
		}
		own := transport
		running.Go(func() {
			result := postUntil(ctx, own, protocol, address, pause, check)
			mu.Lock()
			defer mu.Unlock()
			total.Add(result)
		})
	}
	running.Wait()
	return total
}

func newTransport(protocol string) *http.Transport {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	if protocol == h2c {
		transport.Protocols.SetUnencryptedHTTP2(true)
		return transport
	}
	transport.Protocols.SetHTTP2(true)
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return transport
}

// postUntil sends the requests of one client.
func postUntil(ctx context.Context, transport *http.Transport, protocol, address string, pause time.Duration,
	check func(*http.Response, []byte) error) load.Result {
	result := load.Result{Errors: make(map[string]int)}
	for ctx.Err() == nil {
		start := time.Now()
		err := post(transport, protocol, address, check)
		if err == errUnsent {
			continue
		}
		result.Sent++
		if err == nil {
			result.Answered++
			result.Slowest = max(result.Slowest, time.Since(start))
			time.Sleep(pause)
			continue
		}
		result.Lost++
		result.Errors[reason(err)]++
		time.Sleep(10 * time.Millisecond) // do not count a million losses while the server is down
	}
	return result
}

// errUnsent is returned for a request of which nothing was written. If a connection has had its
// GOAWAY between being chosen for a request and being used, net/http's client closes the body, and
// then does not send the request on another connection because the body is closed ("cannot rewind
// body after connection loss"). No server can do anything about that, and none has lost it.
var errUnsent = errors.New("the request was not sent")

func post(transport *http.Transport, protocol, address string, check func(*http.Response, []byte) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	url := "https://" + address
	if protocol == h2c {
		url = "http://" + address
	}
	body := io.MultiReader(strings.NewReader("body")) // of a type for which net/http has no GetBody
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}
	response, err := transport.RoundTrip(request.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil && !sent.Load() && strings.Contains(err.Error(), "cannot rewind body") {
		return errUnsent
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.ProtoMajor != 2 {
		return errors.New("answer over " + response.Proto)
	}
	return check(response, content)
}

// reason shortens an error so that errors of one kind are equal.
func reason(err error) string {
	text, _, _ := strings.Cut(err.Error(), "; LastStreamID=")
	return text
}
