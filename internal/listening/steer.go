package listening

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/orphan"
	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/socket"
	"github.com/start-server/start-server/internal/steer"
)

// openSteered opens the sockets of a UDP port (--steer-udp), or takes over those of the workers that
// were left. given is a socket from the service manager, or nil.
func (s *Sockets) openSteered(p portspec.Port, given *socket.Socket) (*socket.Socket, error) {
	group, err := s.openGroup(p, given)
	if err != nil {
		return nil, fmt.Errorf("bind %s for --steer-udp: %w", p.Key, err)
	}
	s.steered = append(s.steered, group)
	return &socket.Socket{Key: p.Key, FD: group.FDs[group.Newest], RequestedFD: p.FD, Name: socket.FDName(p.Key)}, nil
}

func (s *Sockets) openGroup(p portspec.Port, given *socket.Socket) (*steer.Group, error) {
	switch {
	case given != nil && given.Given:
		return nil, errors.New("the service manager has passed this socket, and each generation needs one of its own")
	case given != nil: // stored by a superdaemon without --steer-udp; from now on the workers keep it
		s.unwanted = append(s.unwanted, &socket.Socket{Key: p.Key, FD: -1})
		return steer.Adopt([]int{given.FD}, nil)
	}
	a, err := orphan.PortAddress(p)
	if err != nil {
		return nil, err
	}
	why := orphan.ErrNone
	if p.Port != 0 {
		taken, err := s.finder.TakeAll(a)
		if err == nil {
			return adoptGroup(taken, func(pid int) { s.report(lines.TakenOver(p.Key, pid)) })
		}
		if errors.Is(err, ErrStopped) {
			return nil, err
		}
		why = err
	}
	group, err := steer.Open(a.Ports[0])
	if errors.Is(err, unix.EADDRINUSE) && why != orphan.ErrNone {
		err = fmt.Errorf("%w\n%w", err, why)
	}
	return group, err
}

// adoptGroup makes a group of the sockets of workers that were left.
func adoptGroup(taken []orphan.Taken, report func(pid int)) (*steer.Group, error) {
	oldestFirst := make([]*orphan.Taken, len(taken))
	for i := range taken {
		oldestFirst[i] = &taken[i]
	}
	slices.SortFunc(oldestFirst, func(a, b *orphan.Taken) int { return slices.Compare(a.Generations, b.Generations) })
	var fds []int
	generations := map[int]int{}
	for _, t := range oldestFirst {
		fds = append(fds, t.FD)
		for _, generation := range t.Generations {
			generations[max(generation, 1)] = t.FD
		}
		report(t.From)
	}
	return steer.Adopt(fds, generations)
}

// Place gives the next worker its own socket of each steered port.
func (s *Sockets) Place(generation int) error {
	for _, group := range s.steered {
		fd, err := group.Take(generation)
		o := socketOf(group, s.list)
		if err != nil {
			return fmt.Errorf("a socket of %s for generation %d: %w", o.Key, generation, err)
		}
		o.FD = fd
	}
	return nil
}

// socketOf returns the socket in the list that is one of a group, or nil.
func socketOf(group *steer.Group, list []*socket.Socket) *socket.Socket {
	i := slices.IndexFunc(list, func(o *socket.Socket) bool { return o != nil && group.Has(o.FD) })
	if i < 0 {
		return nil
	}
	return list[i]
}

// isSteered reports whether a socket is one of a group.
func (s *Sockets) isSteered(o *socket.Socket) bool {
	return slices.ContainsFunc(s.steered, func(group *steer.Group) bool { return group.Has(o.FD) })
}

// Route gives the packets of the steered ports to these workers.
func (s *Sockets) Route(workers []steer.Worker) {
	for _, group := range s.steered {
		if err := group.Route(workers); err != nil {
			s.report(lines.NotSteered(err))
		}
	}
}

// spares returns the descriptors of groups that are not those of a socket in the list.
func spares(groups []*steer.Group, list []*socket.Socket) (fds []int) {
	for _, group := range groups {
		o := socketOf(group, list)
		fds = append(fds, slices.DeleteFunc(slices.Clone(group.FDs), func(fd int) bool { return o != nil && fd == o.FD })...)
	}
	return fds
}
