package socket

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/start-server/start-server/internal/process"
)

const hole = process.Closed

// wishing makes sockets of descriptors 100, 101 and so on with these wishes.
func wishing(wishes ...int) (sockets []*Socket) {
	for i, wish := range wishes {
		sockets = append(sockets, &Socket{FD: 100 + i, RequestedFD: wish})
	}
	return sockets
}

func TestArrange(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wishes    []int
		inherited []int
		files     []uintptr
		numbers   []int
	}{
		"nothing":             {nil, nil, []uintptr{0, 1, 2}, []int{}},
		"from 3 up":           {[]int{-1, -1}, nil, []uintptr{0, 1, 2, 100, 101}, []int{3, 4}},
		"beside inherited":    {[]int{-1, -1}, []int{3, 5}, []uintptr{0, 1, 2, 3, 100, 5, 101}, []int{4, 6}},
		"wishes come first":   {[]int{-1, 3}, nil, []uintptr{0, 1, 2, 101, 100}, []int{4, 3}},
		"a wish far away":     {[]int{6, -1}, nil, []uintptr{0, 1, 2, 101, hole, hole, 100}, []int{6, 3}},
		"standard input":      {[]int{0}, nil, []uintptr{100, 1, 2}, []int{0}},
		"a wish of inherited": {[]int{4, -1}, []int{4}, []uintptr{0, 1, 2, 101, 100}, []int{4, 3}},
	} {
		files, numbers := AssignFDs(wishing(test.wishes...), test.inherited)
		if diff := cmp.Diff(test.files, files) + cmp.Diff(test.numbers, numbers); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestArrangeActivated(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wishes         []int
		inherited      []int
		files          []uintptr
		numbers, order []int
	}{
		"nothing":            {nil, []int{4}, []uintptr{0, 1, 2}, []int{}, []int{}},
		"from 3 up":          {[]int{-1, -1}, nil, []uintptr{0, 1, 2, 100, 101}, []int{3, 4}, []int{0, 1}},
		"inherited give way": {[]int{-1, -1}, []int{3, 5}, []uintptr{0, 1, 2, 100, 101}, []int{3, 4}, []int{0, 1}},
		"a wish within":      {[]int{-1, 3}, nil, []uintptr{0, 1, 2, 101, 100}, []int{4, 3}, []int{1, 0}},
		"a wish beyond":      {[]int{7, -1}, nil, []uintptr{0, 1, 2, 100, 101, hole, hole, 100}, []int{7, 4}, []int{0, 1}},
		"standard input":     {[]int{0}, nil, []uintptr{100, 1, 2, 100}, []int{0}, []int{0}},
	} {
		files, numbers, order := AssignActivationFDs(wishing(test.wishes...), test.inherited)
		if diff := cmp.Diff(test.files, files) + cmp.Diff(test.numbers, numbers) + cmp.Diff(test.order, order); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestArrangements: whatever the wishes are, each socket is where it is said to be, and nothing else that was open is lost.
func TestArrangements(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		wished := random.Perm(12)
		wishes := make([]int, random.IntN(6))
		for i := range wishes {
			if wishes[i] = -1; random.IntN(2) == 0 {
				wishes[i] = wished[i]
			}
		}
		var inherited []int
		for fd := 3; fd < 12; fd++ {
			if random.IntN(4) == 0 {
				inherited = append(inherited, fd)
			}
		}
		sockets := wishing(wishes...)

		files, numbers := AssignFDs(sockets, inherited)
		checkNumbers(t, sockets, files, numbers)
		for _, fd := range inherited {
			if fd < len(files) && !slices.Contains(wishes, fd) && files[fd] != uintptr(fd) {
				t.Fatalf("wishes %v, inherited %v: %d is lost in %v", wishes, inherited, fd, files)
			}
		}

		files, numbers, order := AssignActivationFDs(sockets, inherited)
		checkNumbers(t, sockets, files, numbers)
		for place, i := range order {
			if files[FirstActivated+place] != uintptr(sockets[i].FD) {
				t.Fatalf("wishes %v, inherited %v: socket %d does not stand at %d in %v", wishes, inherited, i, FirstActivated+place, files)
			}
		}
		slices.Sort(order)
		for i := range sockets {
			if order[i] != i {
				t.Fatalf("wishes %v, inherited %v: the order is %v", wishes, inherited, order)
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
