package socket

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/start-server/start-server/internal/process"
)

const closed = process.Closed

// requesting returns sockets with the descriptors 100, 101 and so on and these requested numbers.
func requesting(requests ...int) (sockets []*Socket) {
	for i, request := range requests {
		sockets = append(sockets, &Socket{FD: 100 + i, RequestedFD: request})
	}
	return sockets
}

func TestAssignFDs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		requests  []int
		inherited []int
		files     []uintptr
		numbers   []int
	}{
		"nothing":             {nil, nil, []uintptr{0, 1, 2}, []int{}},
		"from 3 up":           {[]int{-1, -1}, nil, []uintptr{0, 1, 2, 100, 101}, []int{3, 4}},
		"beside inherited":    {[]int{-1, -1}, []int{3, 5}, []uintptr{0, 1, 2, 3, 100, 5, 101}, []int{4, 6}},
		"requested first":     {[]int{-1, 3}, nil, []uintptr{0, 1, 2, 101, 100}, []int{4, 3}},
		"a high number":       {[]int{6, -1}, nil, []uintptr{0, 1, 2, 101, closed, closed, 100}, []int{6, 3}},
		"standard input":      {[]int{0}, nil, []uintptr{100, 1, 2}, []int{0}},
		"an inherited number": {[]int{4, -1}, []int{4}, []uintptr{0, 1, 2, 101, 100}, []int{4, 3}},
	} {
		files, numbers := AssignFDs(requesting(test.requests...), test.inherited)
		if diff := cmp.Diff(test.files, files) + cmp.Diff(test.numbers, numbers); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestAssignActivationFDs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		requests       []int
		inherited      []int
		files          []uintptr
		numbers, order []int
	}{
		"nothing":          {nil, []int{4}, []uintptr{0, 1, 2}, []int{}, []int{}},
		"from 3 up":        {[]int{-1, -1}, nil, []uintptr{0, 1, 2, 100, 101}, []int{3, 4}, []int{0, 1}},
		"over inherited":   {[]int{-1, -1}, []int{3, 5}, []uintptr{0, 1, 2, 100, 101}, []int{3, 4}, []int{0, 1}},
		"within the range": {[]int{-1, 3}, nil, []uintptr{0, 1, 2, 101, 100}, []int{4, 3}, []int{1, 0}},
		"beyond the range": {[]int{7, -1}, nil, []uintptr{0, 1, 2, 100, 101, closed, closed, 100}, []int{7, 4}, []int{0, 1}},
		"standard input":   {[]int{0}, nil, []uintptr{100, 1, 2, 100}, []int{0}, []int{0}},
	} {
		files, numbers, order := AssignActivationFDs(requesting(test.requests...), test.inherited)
		if diff := cmp.Diff(test.files, files) + cmp.Diff(test.numbers, numbers) + cmp.Diff(test.order, order); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestAssignRandom checks random requests: each socket has the number that is returned for it, and
// no inherited descriptor is lost.
func TestAssignRandom(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		permutation := random.Perm(12)
		requests := make([]int, random.IntN(6))
		for i := range requests {
			if requests[i] = -1; random.IntN(2) == 0 {
				requests[i] = permutation[i]
			}
		}
		var inherited []int
		for fd := 3; fd < 12; fd++ {
			if random.IntN(4) == 0 {
				inherited = append(inherited, fd)
			}
		}
		sockets := requesting(requests...)

		files, numbers := AssignFDs(sockets, inherited)
		checkNumbers(t, sockets, files, numbers)
		for _, fd := range inherited {
			if fd < len(files) && !slices.Contains(requests, fd) && files[fd] != uintptr(fd) {
				t.Fatalf("requests %v, inherited %v: %d is lost in %v", requests, inherited, fd, files)
			}
		}

		files, numbers, order := AssignActivationFDs(sockets, inherited)
		checkNumbers(t, sockets, files, numbers)
		for place, i := range order {
			if files[firstActivated+place] != uintptr(sockets[i].FD) {
				t.Fatalf("requests %v, inherited %v: socket %d is not at %d in %v", requests, inherited, i, firstActivated+place, files)
			}
		}
		slices.Sort(order)
		for i := range sockets {
			if order[i] != i {
				t.Fatalf("requests %v, inherited %v: the order is %v", requests, inherited, order)
			}
		}
	}
}

func checkNumbers(t *testing.T, sockets []*Socket, files []uintptr, numbers []int) {
	t.Helper()
	for i, s := range sockets {
		if files[numbers[i]] != uintptr(s.FD) || s.RequestedFD >= 0 && numbers[i] != s.RequestedFD {
			t.Fatalf("socket %+v is at %d of %v", s, numbers[i], files)
		}
	}
}
