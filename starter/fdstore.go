package starter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/socket"
)

// fdstore keeps the sockets that the superdaemon has opened in the descriptor store of the service
// manager, which passes them to the next superdaemon (sd_notify(3), FDSTORE=1). Meanwhile clients wait
// in their queues.
type fdstore struct {
	address string // of the service manager, "" if it has no store
	report  func(line string)
}

// newFDStore reads what the service manager offers: NOTIFY_SOCKET, and the size of the store, which
// systemd 254 and later tell in FDSTORE.
func newFDStore(getenv func(string) string, report func(line string)) *fdstore {
	size, err := strconv.Atoi(getenv("FDSTORE"))
	if err != nil || size <= 0 {
		return &fdstore{report: report}
	}
	return &fdstore{address: getenv("NOTIFY_SOCKET"), report: report}
}

// storePrefix begins the name of every descriptor that we keep there, to tell it from a socket unit's.
const storePrefix = "start_server-"

// stored reports whether the service manager passed the socket from its store, where we had put it.
func stored(o *socket.Socket) bool { return strings.HasPrefix(o.Name, storePrefix) }

func storeName(o *socket.Socket) string {
	name := storePrefix + socket.FDName(o.Key)
	return name[:min(len(name), 255)]
}

// put stores the sockets. Their files stay at the end, for the sockets stay as well.
func (f *fdstore) put(sockets []*socket.Socket) {
	for _, o := range sockets {
		if f.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+storeName(o), o.FD) {
			o.Stored = true
		}
	}
}

// remove takes sockets out of the store. All of one name go: put those that stay afterwards.
func (f *fdstore) remove(sockets []*socket.Socket) {
	for _, o := range sockets {
		f.send("FDSTOREREMOVE=1\nFDNAME=" + storeName(o))
	}
}

// send sends a message. If the queue of the service manager is full, it tries again for a short time.
func (f *fdstore) send(message string, fds ...int) bool {
	if f.address == "" {
		return false
	}
	const attempts = 50
	err := sdnotify.SendDescriptors(f.address, message, fds)
	for n := 1; n < attempts && errors.Is(err, unix.EAGAIN); n++ {
		time.Sleep(time.Millisecond)
		err = sdnotify.SendDescriptors(f.address, message, fds)
	}
	if err != nil {
		f.report(fmt.Sprintf("use the descriptor store of the service manager: %v", err))
	}
	return err == nil
}

// takeStored makes a socket from the store one of ours again. A unix socket is of use only if its file
// is still there.
func (s *sockets) takeStored(o *socket.Socket, key, path string) *socket.Socket {
	if o == nil || !stored(o) {
		return o
	}
	taken := socket.TakeOver(o.FD, key, path, s.config.Backlog)
	if path != "" && taken.Path == "" {
		s.unwanted = append(s.unwanted, o)
		return nil
	}
	s.taken = append(s.taken, taken)
	return taken
}

// dropStored takes out what came from the store and was not asked for.
func (s *sockets) dropStored(offered []*socket.Socket) []*socket.Socket {
	return slices.DeleteFunc(offered, func(o *socket.Socket) bool {
		if stored(o) {
			o.Key = strings.TrimPrefix(o.Name, storePrefix)
			s.unwanted = append(s.unwanted, o)
		}
		return stored(o)
	})
}

// store brings the descriptor store up to date: it holds what we have opened, and nothing else.
func (s *sockets) store(f *fdstore) {
	f.remove(s.unwanted)
	for _, o := range s.unwanted {
		unix.Close(o.FD)
	}
	s.unwanted = nil
	f.put(slices.DeleteFunc(slices.Clone(s.list), func(o *socket.Socket) bool { return o.Given }))
}
