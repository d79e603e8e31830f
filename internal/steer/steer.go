// Package steer gives each generation of a server a UDP socket of its own at the same address, and
// has the kernel choose among them by the connection ID of a QUIC packet. A connection stays with
// the generation that accepted it, and everything else goes to the newest generation.
//
// The sockets are a group of SO_REUSEPORT with a classic BPF filter, which needs no privileges. The
// filter returns an index in the group. A socket that is closed would give its index to the last
// one, at a moment that is not known, since workers have duplicates. So the sockets stay open: each
// is a place that generations take one after the other.
package steer

import (
	"maps"
	"slices"
)

// Prefix returns the first three bytes of a connection ID of a generation.
func Prefix(generation int) [3]byte {
	g := byte(generation)
	return [3]byte{g, g ^ 0xff, g ^ 0x5a}
}

// A Worker is a living worker.
type Worker struct {
	Generation int
	Started    bool
	StopSent   bool // it was told to stop
}

// A Group holds the sockets of an address. Its methods must be called by one goroutine at a time.
type Group struct {
	FDs    []int       `json:"fds"`    // by index in the group, close-on-exec
	Places map[int]int `json:"places"` // indexes of the living generations
	Newest int         `json:"newest"` // the index that gets what belongs to none of these

	attached []instruction // nil if not known
}

// Valid reports whether the indexes are those of descriptors.
func (g *Group) Valid() bool {
	for _, index := range append(slices.Collect(maps.Values(g.Places)), g.Newest) {
		if index < 0 || index >= len(g.FDs) {
			return false
		}
	}
	return true
}

// Has reports whether a descriptor is one of the group.
func (g *Group) Has(fd int) bool { return slices.Contains(g.FDs, fd) }

// Take returns the socket for a worker that is about to be started. If no worker serves, it is the
// one in which packets wait already, otherwise an empty one. Call Route first.
func (g *Group) Take(generation int) (fd int, err error) {
	index := g.Newest
	if g.taken(index) {
		if index, err = g.free(); err != nil {
			return -1, err
		}
	}
	g.Places[generation] = index
	return g.FDs[index], g.attach()
}

// Route gives the packets of each living generation to it, and everything else to the newest that
// has started, else to the newest that is starting. If there is neither, everything else waits for
// the next worker. Generations that do not live lose their places.
func (g *Group) Route(workers []Worker) error {
	living := map[int]bool{}
	best := Worker{}
	for _, w := range workers {
		living[w.Generation] = true
		if _, ok := g.Places[w.Generation]; !ok || w.StopSent || best.Started && !w.Started {
			continue
		}
		if w.Started && !best.Started || w.Generation > best.Generation {
			best = w
		}
	}
	maps.DeleteFunc(g.Places, func(generation, _ int) bool { return !living[generation] })
	if best.Generation > 0 {
		g.Newest = g.Places[best.Generation]
	} else if g.taken(g.Newest) {
		index, err := g.free()
		if err != nil {
			return err
		}
		g.Newest = index
	}
	return g.attach()
}

func (g *Group) taken(index int) bool {
	return slices.Contains(slices.Collect(maps.Values(g.Places)), index)
}

// free empties a place that no generation has, and returns its index. If there is none, the group
// gets one more: the last index, which the filter does not return yet.
func (g *Group) free() (int, error) {
	for index, fd := range g.FDs {
		if index != g.Newest && !g.taken(index) {
			empty(fd)
			return index, nil
		}
	}
	return len(g.FDs), g.grow()
}

// attach attaches the filter if it has changed.
func (g *Group) attach() error {
	program := filter(g.Places, g.Newest)
	if slices.Equal(program, g.attached) {
		return nil
	}
	if err := attach(g.FDs[0], program); err != nil {
		return err
	}
	g.attached = program
	return nil
}
