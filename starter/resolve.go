package starter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/socket"
)

// errStopped means that the superdaemon was stopped before it had bound everything.
var errStopped = errors.New("stopped while binding")

// lookup returns the first IPv4 address of a host.
type lookup func(ctx context.Context, host string) (netip.Addr, error)

// resolvePorts parses the values of --port and resolves their hosts. The resolver may take a
// minute: at a signal to stop, which it reports, or at the end of ctx it returns errStopped.
func resolvePorts(ctx context.Context, specs []string, find lookup, stop <-chan os.Signal, report func(string)) ([]portspec.Port, error) {
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
// errStopped.
func await[T any](ctx context.Context, c <-chan T, stop <-chan os.Signal, report func(string)) (value T, err error) {
	select {
	case value = <-c:
		return value, nil
	case sig := <-stop:
		report(msgStoppedEarly(sig))
	case <-ctx.Done():
	}
	return value, errStopped
}

// lookUpPorts looks up each host once. It is an error if two ports have the same address.
func lookUpPorts(ctx context.Context, specs []string, find lookup) ([]portspec.Port, error) {
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
		if p.Port != 0 && used[portAddress(p)] {
			return nil, fmt.Errorf("--port=%q: the same address twice", spec)
		}
		used[portAddress(p)] = true
		ports[i] = p
	}
	return ports, nil
}

// resolvePorts resolves the ports of the configuration.
func (d *superdaemon) resolvePorts(ctx context.Context) ([]portspec.Port, error) {
	return resolvePorts(ctx, d.config.Ports, socket.LookupIPv4, d.loop.signals.Stop, d.logLine)
}

// pause waits for wait, or until the superdaemon is stopped while it binds.
func (d *superdaemon) pause(ctx context.Context, wait time.Duration) error {
	d.status.published.Write(d.report().Encode()) // the next one follows when everything is bound
	_, err := await(ctx, time.After(wait), d.loop.signals.Stop, d.logLine)
	return err
}
