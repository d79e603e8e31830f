package listening

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/portspec"
)

// ErrStopped means that the superdaemon was stopped before it had bound everything.
var ErrStopped = errors.New("stopped while binding")

// Lookup returns the first IPv4 address of a host.
type Lookup func(ctx context.Context, host string) (netip.Addr, error)

// ResolvePorts parses the values of --port and resolves their hosts. The resolver may take a
// minute: at a signal to stop, which it reports, or at the end of ctx it returns ErrStopped.
func ResolvePorts(ctx context.Context, specs []string, find Lookup, stop <-chan os.Signal, report func(string)) ([]portspec.Port, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		ports []portspec.Port
		err   error
	}
	resolved := make(chan result, 1)
	go func() {
		ports, err := lookUpPorts(ctx, specs, find)
		resolved <- result{ports, err}
	}()
	r, err := await(ctx, resolved, stop, report)
	if err != nil {
		return nil, err
	}
	return r.ports, r.err
}

// await receives from c. At a signal to stop, which it reports, or at the end of ctx it returns
// ErrStopped.
func await[T any](ctx context.Context, c <-chan T, stop <-chan os.Signal, report func(string)) (value T, err error) {
	select {
	case value = <-c:
		return value, nil
	case sig := <-stop:
		report(lines.StoppedEarly(sig.(syscall.Signal)))
	case <-ctx.Done():
	}
	return value, ErrStopped
}

// lookUpPorts looks up each host once. It is an error if two ports have the same address.
func lookUpPorts(ctx context.Context, specs []string, find Lookup) ([]portspec.Port, error) {
	ports := make([]portspec.Port, len(specs))
	addresses, used := map[string]string{}, map[string]bool{}
	for i, spec := range specs {
		p, err := portspec.Parse(spec)
		if err != nil {
			return nil, err
		}
		if p.Host != "" && !p.IPv6() {
			if addresses[p.Host] == "" {
				address, err := find(ctx, p.Host)
				if err != nil {
					return nil, fmt.Errorf("resolve the host of --port %s: %w", p.Key, err)
				}
				addresses[p.Host] = address.String()
			}
			p.Host = addresses[p.Host]
		}
		if p.Port != 0 && used[Address(p)] {
			return nil, fmt.Errorf("--port=%q: the same address twice", spec)
		}
		used[Address(p)] = true
		ports[i] = p
	}
	return ports, nil
}

// Pause waits for wait. At a signal to stop, which it reports, or at the end of ctx it returns
// ErrStopped.
func Pause(ctx context.Context, wait time.Duration, stop <-chan os.Signal, report func(string)) error {
	_, err := await(ctx, time.After(wait), stop, report)
	return err
}

// Address returns the address that a port is bound to. Equal addresses are equal strings, if the
// host names were resolved.
func Address(p portspec.Port) string {
	host := cmp.Or(p.Host, "0.0.0.0")
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	}
	return fmt.Sprint(p.UDP, " ", host, " ", p.Port)
}
