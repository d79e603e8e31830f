package listening

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestResolvePorts(t *testing.T) {
	t.Parallel()
	var asked []string
	find := func(_ context.Context, host string) (netip.Addr, error) {
		asked = append(asked, host)
		if host == "unknown" {
			return netip.Addr{}, errors.New("no such host")
		}
		return netip.MustParseAddr("192.0.2.7"), nil
	}
	report := func(line string) { t.Error(line) }
	ports, err := ResolvePorts(t.Context(), []string{"a:80", "81", "a:u82=5", "[::1]:83", "b:84"}, find, nil, report)
	if err != nil || strings.Join(asked, " ") != "a b" {
		t.Fatalf("%v, asked for %q; want each host once", err, asked)
	}
	for i, want := range []struct{ key, host string }{
		{"a:80", "192.0.2.7"}, {"81", ""}, {"a:82", "192.0.2.7"}, {"[::1]:83", "::1"}, {"b:84", "192.0.2.7"},
	} {
		if p := ports[i]; p.Key != want.key || p.Host != want.host {
			t.Errorf("port %d is %+v, want %+v", i, p, want)
		}
	}
	if _, err := ResolvePorts(t.Context(), []string{"unknown:80"}, find, nil, report); err == nil || err.Error() != "resolve the host of --port unknown:80: no such host" {
		t.Error(err)
	}
	for _, specs := range [][]string{{"a:80", "b:80"}, {"a:u80", "192.0.2.7:u80"}} {
		_, err := ResolvePorts(t.Context(), specs, find, nil, report)
		if want := fmt.Sprintf("--port=%q: the same address twice", specs[1]); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", specs, err, want)
		}
	}
	if _, err := ResolvePorts(t.Context(), []string{"a:80", "a:u80", "a:0", "b:0", "c:81"}, find, nil, report); err != nil {
		t.Error(err)
	}
}

// TestStopWhileResolving checks that a stop does not wait for the resolver, even if that does not
// return when it is cancelled.
func TestStopWhileResolving(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	hang := func(context.Context, string) (netip.Addr, error) {
		<-release
		return netip.Addr{}, errors.New("released")
	}
	stop, reported := make(chan os.Signal, 1), ""
	stop <- syscall.SIGTERM
	_, err := ResolvePorts(t.Context(), []string{"slow:80"}, hang, stop, func(line string) { reported += line })
	if !errors.Is(err, ErrStopped) || reported != "received TERM while binding, exiting" {
		t.Errorf("%v, reported %q", err, reported)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ResolvePorts(ctx, []string{"slow:80"}, hang, nil, func(line string) { t.Error(line) }); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
}
