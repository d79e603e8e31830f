package listening

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/orphan"
	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/socket"
)

// fdstore keeps the sockets that the superdaemon has opened in the descriptor store of the service
// manager, which passes them to the next superdaemon (sd_notify(3), FDSTORE=1). Between the two,
// clients wait in their queues.
type fdstore struct {
	address string // of the service manager, "" if it has no store
	report  func(line string)
}

// newFDStore reads the variables of the service manager: NOTIFY_SOCKET and, from systemd 254 on,
// FDSTORE, the size of the store.
func newFDStore(getenv func(string) string, report func(line string)) *fdstore {
	size, err := strconv.Atoi(getenv("FDSTORE"))
	if err != nil || size <= 0 {
		return &fdstore{report: report}
	}
	return &fdstore{address: getenv("NOTIFY_SOCKET"), report: report}
}

// storePrefix begins the name of every descriptor in the store, to distinguish it from one of a
// socket unit.
const storePrefix = "start_server-"

// stored reports whether the service manager passed the socket from its store.
func stored(o *socket.Socket) bool { return strings.HasPrefix(o.Name, storePrefix) }

func storeName(o *socket.Socket) string {
	name := storePrefix + socket.FDName(o.Key)
	return name[:min(len(name), 255)]
}

// put stores the sockets. Their files are not removed at the end, since the sockets stay.
func (f *fdstore) put(sockets []*socket.Socket) {
	for _, o := range sockets {
		if f.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+storeName(o), o.FD) {
			o.Stored = true
		}
	}
}

// remove removes sockets from the store, together with others of the same name: put those that stay
// afterwards.
func (f *fdstore) remove(sockets []*socket.Socket) {
	for _, o := range sockets {
		f.send("FDSTOREREMOVE=1\nFDNAME=" + storeName(o))
	}
}

// send sends a message. If the queue of the service manager is full, it tries again for a short
// time.
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
		f.report(lines.NotStored(err))
	}
	return err == nil
}

// takeStored takes over a socket from the store. It drops a unix socket whose file is gone, or
// belongs to something else by now: no client would reach it.
func (s *Sockets) takeStored(o *socket.Socket, key, path string) *socket.Socket {
	if o == nil || !stored(o) {
		return o
	}
	if path != "" && !orphan.IsAt(path, o.FD) {
		s.unwanted = append(s.unwanted, o)
		return nil
	}
	taken := socket.TakeOver(o.FD, key, path, s.options.Backlog)
	s.taken = append(s.taken, taken)
	return taken
}

// dropStored removes from offered the sockets of the store that no option names.
func (s *Sockets) dropStored(offered []*socket.Socket) []*socket.Socket {
	return slices.DeleteFunc(offered, func(o *socket.Socket) bool {
		if stored(o) {
			o.Key = strings.TrimPrefix(o.Name, storePrefix)
			s.unwanted = append(s.unwanted, o)
		}
		return stored(o)
	})
}

// updateStore brings the descriptor store up to date: it holds the sockets that this superdaemon has
// opened, and nothing else. Steered sockets have no use without their workers, which keep them.
func (s *Sockets) updateStore() {
	s.store.remove(s.unwanted)
	for _, o := range s.unwanted {
		unix.Close(o.FD)
	}
	s.unwanted = nil
	s.store.put(slices.DeleteFunc(slices.Clone(s.list), func(o *socket.Socket) bool { return o.Given || s.isSteered(o) }))
}
