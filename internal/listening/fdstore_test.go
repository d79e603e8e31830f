package listening

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/socket"
)

// TestFDStore checks that unwanted sockets are removed before the others are stored, and that the
// sockets of a socket unit are not stored.
func TestFDStore(t *testing.T) {
	dir := t.TempDir()
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	env := map[string]string{"FDSTORE": "16", "NOTIFY_SOCKET": manager.LocalAddr().String()}
	report := func(line string) { t.Error(line) }
	path := filepath.Join(dir, "s")
	tcp, err := socket.OpenPort(portspec.Port{Key: "127.0.0.1:0", Host: "127.0.0.1", FD: -1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	file, err := socket.OpenPath(path, 0, socket.DefaultAccess, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &Sockets{
		list:  []*socket.Socket{tcp, file, {Key: "80", FD: -1, Given: true}},
		store: newFDStore(func(name string) string { return env[name] }, report),
	}
	if kept := s.dropStored([]*socket.Socket{{Name: "app.socket", FD: -1}, {Name: storePrefix + "old", FD: -1}}); len(kept) != 1 {
		t.Errorf("passed on: %+v", kept)
	}
	s.updateStore()

	var got []string
	for range 3 {
		buf, control := make([]byte, 1000), make([]byte, 1000)
		n, oobn, _, _, err := manager.ReadMsgUnix(buf, control)
		if err != nil {
			t.Fatal(err)
		}
		message := strings.ReplaceAll(string(buf[:n]), path, "PATH")
		messages, err := unix.ParseSocketControlMessage(control[:oobn])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil || len(fds) != 1 {
				t.Fatalf("%v, %v", fds, err)
			}
			addr, _ := unix.Getsockname(fds[0])
			if a, ok := addr.(*unix.SockaddrUnix); ok {
				message += strings.ReplaceAll(" "+a.Name, path, "PATH")
			}
			unix.Close(fds[0])
		}
		got = append(got, message)
	}
	want := []string{
		"FDSTOREREMOVE=1\nFDNAME=start_server-old",
		"FDSTORE=1\nFDPOLL=0\nFDNAME=start_server-127.0.0.1_0",
		"FDSTORE=1\nFDPOLL=0\nFDNAME=start_server-PATH PATH",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	// The file of a stored socket stays: a later superdaemon takes over both.
	file.Close()
	tcp.Close()
	if !file.Same(path) {
		t.Error("the socket file is gone")
	}
	for _, size := range []string{"", "0", "x"} {
		env["FDSTORE"] = size
		if f := newFDStore(func(name string) string { return env[name] }, report); f.address != "" {
			t.Errorf("FDSTORE=%q is a store", size)
		}
	}
}
