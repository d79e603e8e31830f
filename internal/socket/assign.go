package socket

import (
	"slices"

	"github.com/start-server/start-server/internal/process"
)

// AssignFDs decides on the descriptors of a worker. It returns files for process.Spec.Files, and
// the numbers of the sockets, in order.
//
// A socket with a requested number gets it. The others get the lowest free numbers from 3 up.
// Numbers that the superdaemon inherited are not free: they stay as they are (Server::Starter
// 0.35).
func AssignFDs(sockets []*Socket, inherited []int) (files []uintptr, numbers []int) {
	t := newTable(inherited)
	numbers = make([]int, len(sockets))
	for i, s := range sockets {
		if s.RequestedFD >= 0 {
			numbers[i] = t.place(s.RequestedFD, s.FD)
		}
	}
	free := firstActivated
	for i, s := range sockets {
		if s.RequestedFD < 0 {
			for t.taken(free) {
				free++
			}
			numbers[i] = t.place(free, s.FD)
		}
	}
	return t.done(), numbers
}

// AssignActivationFDs is like AssignFDs, for sd_listen_fds(3): the sockets get the numbers from 3
// up without a gap, even if the superdaemon inherited some of these. A socket with a requested
// number outside of that range has that number as well. order holds the indices of the sockets in
// the order of their numbers from 3 up.
func AssignActivationFDs(sockets []*Socket, inherited []int) (files []uintptr, numbers, order []int) {
	end := firstActivated + len(sockets)
	inherited = slices.DeleteFunc(slices.Clone(inherited), func(fd int) bool {
		return fd >= firstActivated && fd < end
	})
	t := newTable(inherited)
	numbers = make([]int, len(sockets))
	order = make([]int, len(sockets))
	placed := make([]bool, len(sockets))
	for i, s := range sockets {
		if s.RequestedFD >= 0 {
			numbers[i] = t.place(s.RequestedFD, s.FD)
			if placed[i] = s.RequestedFD >= firstActivated && s.RequestedFD < end; placed[i] {
				order[s.RequestedFD-firstActivated] = i
			}
		}
	}
	free := firstActivated
	for i, s := range sockets {
		if placed[i] {
			continue
		}
		for t.taken(free) {
			free++
		}
		t.place(free, s.FD)
		order[free-firstActivated] = i
		if s.RequestedFD < 0 {
			numbers[i] = free
		}
	}
	return t.done(), numbers, order
}

// table builds the descriptor table of a worker. It ends with the last number that is assigned:
// inherited descriptors beyond that stay as they are.
type table struct {
	files     []uintptr
	inherited []int
}

func newTable(inherited []int) *table {
	t := &table{inherited: inherited}
	for fd := range firstActivated {
		t.place(fd, fd)
	}
	return t
}

func (t *table) taken(number int) bool {
	return number < len(t.files) && t.files[number] != process.Closed || slices.Contains(t.inherited, number)
}

func (t *table) place(number, fd int) int {
	for len(t.files) <= number {
		t.files = append(t.files, process.Closed)
	}
	t.files[number] = uintptr(fd)
	return number
}

func (t *table) done() []uintptr {
	for _, fd := range t.inherited {
		if fd < len(t.files) && t.files[fd] == process.Closed {
			t.files[fd] = uintptr(fd)
		}
	}
	return t.files
}
