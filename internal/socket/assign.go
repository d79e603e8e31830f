package socket

import (
	"slices"

	"github.com/start-server/start-server/internal/process"
)

// AssignFDs numbers the descriptors of a worker. files is what
// process.Spec.Files takes; numbers are those of the sockets, in order.
//
// A socket with a wish is placed there. The others get the lowest free numbers
// from 3 up, skipping what the superdaemon itself inherited, which
// keeps its numbers (Server::Starter 0.35).
func AssignFDs(sockets []*Socket, inherited []int) (files []uintptr, numbers []int) {
	t := newTable(inherited)
	numbers = make([]int, len(sockets))
	for i, s := range sockets {
		if s.RequestedFD >= 0 {
			numbers[i] = t.place(s.RequestedFD, s.FD)
		}
	}
	free := FirstActivated
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

// AssignActivationFDs is Arrange for sd_listen_fds(3): the sockets stand from 3 up
// without a gap, whatever the superdaemon inherited there. One that
// wishes for a number beyond is there as well. order holds the indices of the
// sockets by their place from 3 up.
func AssignActivationFDs(sockets []*Socket, inherited []int) (files []uintptr, numbers, order []int) {
	end := FirstActivated + len(sockets)
	inherited = slices.DeleteFunc(slices.Clone(inherited), func(fd int) bool {
		return fd >= FirstActivated && fd < end
	})
	t := newTable(inherited)
	numbers = make([]int, len(sockets))
	order = make([]int, len(sockets))
	placed := make([]bool, len(sockets))
	for i, s := range sockets {
		if s.RequestedFD >= 0 {
			numbers[i] = t.place(s.RequestedFD, s.FD)
			if placed[i] = s.RequestedFD >= FirstActivated && s.RequestedFD < end; placed[i] {
				order[s.RequestedFD-FirstActivated] = i
			}
		}
	}
	free := FirstActivated
	for i, s := range sockets {
		if placed[i] {
			continue
		}
		for t.taken(free) {
			free++
		}
		t.place(free, s.FD)
		order[free-FirstActivated] = i
		if s.RequestedFD < 0 {
			numbers[i] = free
		}
	}
	return t.done(), numbers, order
}

// table is the descriptor table of a worker in the making. It ends with the
// last number that is ours to decide on: what was inherited beyond stays as it is.
type table struct {
	files     []uintptr
	inherited []int
}

func newTable(inherited []int) *table {
	t := &table{inherited: inherited}
	for fd := range FirstActivated {
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
