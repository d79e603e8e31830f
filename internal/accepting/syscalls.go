package accepting

import (
	"encoding/binary"
	"runtime"
	"strconv"
	"strings"
)

// form is how a system call names the descriptors that it waits for.
type form int

const (
	descriptor   form = iota + 1 // accept, accept4: the first argument
	pollArray                    // poll, ppoll: an array of struct pollfd, and its length
	descriptors                  // select, pselect6: one more than the highest, and a set of bits
	multiplexed                  // socketcall: the number of the call, and its arguments in memory
	notWaiting   form = 0
	maxWaitedFor      = 1 << 16 // descriptors; a larger number is not one
)

// abi is how programs for an architecture call the system.
type abi struct {
	arch  string
	word  int // size of a long, in bytes
	order binary.ByteOrder
	waits []wait
}

// wait is a system call that waits for connections.
type wait struct {
	number uint64
	form   form
}

// generic has the numbers of every architecture that Linux got in the last years
// (include/uapi/asm-generic/unistd.h). poll and select are made of ppoll and pselect6 there.
var generic = []wait{{202, descriptor}, {242, descriptor}, {73, pollArray}, {72, descriptors}}

// abis has the system calls that wait for connections. A poll that was interrupted (SIGSTOP and
// SIGCONT) continues as restart_syscall, with the same arguments. 413 and 414 are pselect6_time64 and
// ppoll_time64. The other multiplexer, ipc, waits for no socket.
var abis = []abi{
	{"amd64", 8, binary.LittleEndian, []wait{
		{43, descriptor}, {288, descriptor}, {7, pollArray}, {271, pollArray}, {219, pollArray}, {23, descriptors}, {270, descriptors},
	}},
	{"386", 4, binary.LittleEndian, []wait{
		{102, multiplexed}, {364, descriptor}, {168, pollArray}, {309, pollArray}, {414, pollArray}, {0, pollArray},
		{142, descriptors}, {308, descriptors}, {413, descriptors},
	}},
	{"arm64", 8, binary.LittleEndian, generic}, {"riscv64", 8, binary.LittleEndian, generic}, {"loong64", 8, binary.LittleEndian, generic},
	{"arm", 4, binary.LittleEndian, []wait{
		{285, descriptor}, {366, descriptor}, {168, pollArray}, {336, pollArray}, {414, pollArray}, {0, pollArray},
		{142, descriptors}, {335, descriptors}, {413, descriptors},
	}},
	{"ppc64le", 8, binary.LittleEndian, []wait{
		{102, multiplexed}, {330, descriptor}, {344, descriptor}, {167, pollArray}, {281, pollArray}, {0, pollArray},
		{142, descriptors}, {280, descriptors},
	}},
	{"s390x", 8, binary.BigEndian, []wait{
		{102, multiplexed}, {364, descriptor}, {168, pollArray}, {302, pollArray}, {7, pollArray}, {142, descriptors}, {301, descriptors},
	}},
}

// abiOf returns the ABI of programs for an architecture. ok is false if the numbers are not known.
func abiOf(arch string) (a abi, ok bool) {
	for _, a := range abis {
		if a.arch == arch {
			return a, true
		}
	}
	return abi{}, false
}

// A call is a system call in which a thread is blocked.
type call struct {
	number uint64
	args   [6]uint64
	stack  uint64 // stack pointer
}

// parseCall parses /proc/PID/task/TID/syscall, "NUMBER ARG0 ... ARG5 SP PC" (proc_pid_syscall(5)).
// It returns false for a thread that is not blocked in a system call: "running", "-1 SP PC".
func parseCall(line string) (c call, ok bool) {
	f := strings.Fields(line)
	if len(f) != 9 {
		return c, false
	}
	var n [9]uint64
	for i, word := range f {
		var err error
		if n[i], err = strconv.ParseUint(word, 0, 64); err != nil {
			return c, false
		}
	}
	return call{n[0], [6]uint64(n[1:7]), n[7]}, true
}

// abi returns the ABI of a call under a kernel for programs of the given architecture, which may
// execute those of the other word size as well. ok is false if the numbers are not known.
func (c call) abi(arch string) (a abi, ok bool) {
	short := c.stack < 1<<32
	switch arch {
	case "amd64", "386":
		arch = "amd64"
		if short {
			arch = "386"
		}
	case "arm64", "arm":
		arch = "arm64"
		if short {
			arch = "arm"
		}
	}
	return abiOf(arch)
}

// knownArch reports whether the system calls of this architecture are known.
func knownArch() bool {
	_, ok := abiOf(runtime.GOARCH)
	return ok
}

func (a abi) formOf(number uint64) form {
	for _, w := range a.waits {
		if w.number == number {
			return w.form
		}
	}
	return notWaiting
}

// waitsFor returns the descriptors that a call waits for to become readable. read returns memory of
// the process, nil if it cannot be read.
func (a abi) waitsFor(c call, read func(address uint64, size int) []byte) (fds []int) {
	switch a.formOf(c.number) {
	case descriptor:
		return []int{int(int32(c.args[0]))}
	case multiplexed:
		const accept, accept4 = 5, 18
		if b := read(c.args[1], a.word); len(b) == a.word && (c.args[0] == accept || c.args[0] == accept4) {
			return []int{int(int32(a.long(b)))}
		}
	case pollArray:
		if c.args[1] <= maxWaitedFor {
			return a.polled(read(c.args[0], 8*int(c.args[1])))
		}
	case descriptors:
		if n := c.args[0]; n <= maxWaitedFor && c.args[1] != 0 {
			bits := 8 * uint64(a.word)
			return a.selected(read(c.args[1], int((n+bits-1)/bits)*a.word), int(n))
		}
	case notWaiting:
	}
	return nil
}

// polled reads an array of struct pollfd (poll(2)).
func (a abi) polled(array []byte) (fds []int) {
	for ; len(array) >= 8; array = array[8:] {
		if events := a.order.Uint16(array[4:]); events&readable != 0 {
			fds = append(fds, int(int32(a.order.Uint32(array))))
		}
	}
	return fds
}

// selected reads an fd_set of n bits, which consists of longs (select(2)).
func (a abi) selected(set []byte, n int) (fds []int) {
	for i := 0; len(set) >= a.word; set = set[a.word:] {
		for word := a.long(set); word != 0 && i < n; word >>= 1 {
			if word&1 != 0 {
				fds = append(fds, i)
			}
			i++
		}
		i = (i + 8*a.word - 1) / (8 * a.word) * (8 * a.word)
	}
	return fds
}

func (a abi) long(b []byte) uint64 {
	if a.word == 4 {
		return uint64(a.order.Uint32(b))
	}
	return a.order.Uint64(b)
}
