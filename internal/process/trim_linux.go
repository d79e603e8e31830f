package process

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Trim gives back memory of a process that has nothing to do for a long time: the
// pages of its executable, most of which only its start and its work need.
// They are read again, from the page cache, when they are needed.
func Trim() {
	for _, m := range readOnly() {
		_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, m.address, m.bytes, unix.MADV_DONTNEED)
	}
}

type mapping struct{ address, bytes uintptr }

// readOnly finds the read-only parts of the executable. There are none
// where that is not safe: a position-independent executable has been written to.
var readOnly = sync.OnceValue(func() (found []mapping) {
	if !fixedPosition() {
		return nil
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil
	}
	const constant = "one of the constants of this executable"
	code := reflect.ValueOf(fixedPosition).Pointer()
	data := uintptr(unsafe.Pointer(unsafe.StringData(constant)))
	for line := range bytes.Lines(maps) {
		var from, to uintptr
		var permissions string
		if n, _ := fmt.Sscanf(string(line), "%x-%x %s", &from, &to, &permissions); n != 3 || permissions[:2] == "rw" {
			continue
		}
		if from <= code && code < to || from <= data && data < to {
			found = append(found, mapping{from, to - from})
		}
	}
	return found
})

func fixedPosition() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-buildmode" {
			return s.Value == "exe"
		}
	}
	return false
}
