package starter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/socket"
)

// errStopped means that the superdaemon was stopped before it had bound anything.
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
	select {
	case r := <-resolved:
		return r.ports, r.err
	case sig := <-stop:
		report(msgStoppedEarly(sig))
	case <-ctx.Done():
	}
	return nil, errStopped
}

// lookUpPorts looks up each host once.
func lookUpPorts(ctx context.Context, specs []string, find lookup) ([]portspec.Port, error) {
	ports := make([]portspec.Port, len(specs))
	addresses := map[string]string{}
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
		ports[i] = p
	}
	return ports, nil
}

// resolvePorts resolves the ports of the configuration.
func (d *superdaemon) resolvePorts(ctx context.Context) ([]portspec.Port, error) {
	return resolvePorts(ctx, d.config.Ports, socket.LookupIPv4, d.loop.signals.Stop, d.logLine)
}
