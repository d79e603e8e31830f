package steer

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/listener"
)

// run runs a program as the kernel does.
func run(t testing.TB, program []instruction, packet []byte) int {
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		i := program[pc]
		jump := func(ok bool) {
			if ok {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
		rest := packet[min(len(packet), int(i.K)):]
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_LEN:
			a = uint32(len(packet))
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			if len(rest) < 4 {
				return 0
			}
			a = binary.BigEndian.Uint32(rest)
		case unix.BPF_LD | unix.BPF_B | unix.BPF_ABS:
			if len(rest) < 1 {
				return 0
			}
			a = uint32(rest[0])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= i.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(a&i.K != 0)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= i.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == i.K)
		case unix.BPF_RET | unix.BPF_K:
			return int(i.K)
		default:
			t.Fatalf("instruction %+v", i)
		}
	}
	t.Fatal("the program has no end")
	return -1
}

// short and long return packets of a connection of a generation.
func short(generation int) []byte {
	p := Prefix(generation)
	return append([]byte{0x40, p[0], p[1], p[2]}, make([]byte, 30)...)
}

func long(generation int) []byte {
	p := Prefix(generation)
	return append([]byte{0xc0, 0, 0, 0, 1, 8, p[0], p[1], p[2]}, make([]byte, 30)...)
}

// packets are packets with the generation that gets each if it lives, 0 for the newest.
var packets = []struct {
	name       string
	payload    []byte
	generation int
}{
	{"short header", short(7), 7},
	{"long header", long(7), 7},
	{"another generation, short", short(8), 8},
	{"another generation, long", long(8), 8},
	{"256 generations later", short(7 + 256), 7},
	{"generation that has ended", short(9), 0},
	{"generation that has ended, long", long(9), 0},
	{"the first two bytes only", []byte("\x40\x07\xf8\x00ABCDEFGH"), 0},
	{"new connection", []byte("\xc0\x00\x00\x00\x01\x08ABCDEFGH0123456789"), 0},
	{"prefix of a long header in a short one", append([]byte{0x40, 0, 0, 0, 1, 8}, short(7)[1:]...), 0},
	{"prefix of a short header in a long one", append([]byte{0xc0}, short(7)[1:]...), 0},
	{"empty", nil, 0},
	{"one byte", []byte("A"), 0},
	{"short header, cut off", short(7)[:8], 0},
	{"long header, cut off", long(7)[:8], 0},
	{"shortest long header", long(7)[:9], 7},
	{"DNS query", []byte("\x07\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"), 0},
	{"DNS query, high ID", []byte("\xf8\x07\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01\x07example\x03com\x00\x00\x01\x00\x01"), 0},
}

func TestFilter(t *testing.T) {
	t.Parallel()
	program := filter(map[int]int{7: 2, 8: 1}, 3)
	for _, p := range packets {
		want := map[int]int{0: 3, 7: 2, 8: 1}[p.generation]
		if got := run(t, program, p.payload); got != want {
			t.Errorf("%s: index %d, want %d", p.name, got, want)
		}
	}
}

// TestPrefix: package listener, which imports nothing of this module, has the same prefixes.
func TestPrefix(t *testing.T) {
	for _, generation := range []int{1, 42, 255, 256, 1000} {
		t.Setenv("SERVER_STARTER_GENERATION", fmt.Sprint(generation))
		if got, ok := listener.ConnectionIDPrefix(); got != Prefix(generation) || !ok {
			t.Errorf("generation %d: % x, %t", generation, got, ok)
		}
	}
	t.Setenv("SERVER_STARTER_GENERATION", "")
	if got, ok := listener.ConnectionIDPrefix(); ok {
		t.Errorf("without a generation: % x", got)
	}
}

// TestFilterSharedPrefix: of two living generations with the same prefix the newer one has more
// connections.
func TestFilterSharedPrefix(t *testing.T) {
	t.Parallel()
	if got := run(t, filter(map[int]int{7: 1, 7 + 256: 2}, 0), short(7)); got != 2 {
		t.Errorf("index %d, want 2", got)
	}
}

// TestFilterManyGenerations: no jump is too far, and the kernel accepts the program.
func TestFilterManyGenerations(t *testing.T) {
	t.Parallel()
	places := map[int]int{}
	for generation := 1; generation <= 256; generation++ {
		places[generation] = generation - 1
	}
	program := filter(places, 256)
	for generation, index := range places {
		if got := run(t, program, long(generation)); got != index {
			t.Fatalf("generation %d: index %d, want %d", generation, got, index)
		}
	}
	g := open(t, netip.MustParseAddrPort("127.0.0.1:0"))
	if err := attach(g.FDs[0], program); err != nil {
		t.Error(err)
	}
}

// DNS never looks like a connection: its bytes 2 and 3, the flags of a query, or 6 to 8, its counts.
func TestFilterDNS(t *testing.T) {
	t.Parallel()
	places := map[int]int{}
	for generation := range 256 {
		places[generation] = 1
	}
	program := filter(places, 0)
	query := []byte("\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x07example\x03com\x00\x00\x01\x00\x01")
	for id := range 1 << 9 { // the bits that matter: the first, and the second byte
		binary.BigEndian.PutUint16(query, uint16(id>>8<<15|id&0xff))
		for _, flags := range []uint16{0, 0x0100, 0x0120, 0x0110, 0x2800} {
			binary.BigEndian.PutUint16(query[2:], flags)
			if run(t, program, query) != 0 {
				t.Fatalf("% x is taken for a connection", query)
			}
		}
	}
}

// open opens a group for this test.
func open(t testing.TB, addr netip.AddrPort) *Group {
	t.Helper()
	g, err := Open(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(g) })
	return g
}

func closeAll(g *Group) {
	for _, fd := range g.FDs {
		unix.Close(fd)
	}
}

// client is a client of a group.
type client struct {
	t    testing.TB
	conn net.Conn
}

func dial(t testing.TB, g *Group) client {
	t.Helper()
	sockaddr, err := unix.Getsockname(g.FDs[0])
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPort{}
	switch a := sockaddr.(type) {
	case *unix.SockaddrInet4:
		addr = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		addr = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	conn, err := net.Dial("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return client{t, conn}
}

// send sends a packet.
func (c client) send(payload []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(payload); err != nil {
		c.t.Fatal(err)
	}
}

// receive returns the index of the socket that gets a packet, and the packet.
func receive(t testing.TB, g *Group) (int, string) {
	t.Helper()
	var poll []unix.PollFd
	for _, fd := range g.FDs {
		poll = append(poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for {
		n, err := unix.Poll(poll, 10_000)
		if err == unix.EINTR {
			continue
		}
		if n == 0 || err != nil {
			t.Fatalf("no packet has arrived: %v", err)
		}
		break
	}
	for index, p := range poll {
		if p.Revents != 0 {
			buf := make([]byte, 2000)
			n, _, err := unix.Recvfrom(g.FDs[index], buf, unix.MSG_DONTWAIT)
			if err != nil {
				t.Fatal(err)
			}
			return index, string(buf[:n])
		}
	}
	panic("unreachable")
}

func TestInKernel(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		g, err := Open(netip.MustParseAddrPort(addr))
		if strings.HasPrefix(addr, "[") && (err == unix.EADDRNOTAVAIL || err == unix.EAFNOSUPPORT) {
			t.Log("no IPv6 here: ", err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer closeAll(g)
		for range 2 { // four places
			if err := g.grow(); err != nil {
				t.Fatal(err)
			}
		}
		g.Places, g.Newest = map[int]int{7: 2, 8: 1}, 3
		if err := g.attach(); err != nil {
			t.Fatal(err)
		}
		c := dial(t, g)
		for _, p := range packets {
			c.send(p.payload)
			want := map[int]int{0: 3, 7: 2, 8: 1}[p.generation]
			if got, payload := receive(t, g); got != want || payload != string(p.payload) {
				t.Errorf("%s: %s: index %d, want %d", addr, p.name, got, want)
			}
		}
	}
}

// TestOpenExclusive: an address is an error if any other process has it, even one that shares it.
func TestOpenExclusive(t *testing.T) {
	t.Parallel()
	first := open(t, netip.MustParseAddrPort("127.0.0.1:0"))
	addr := netip.MustParseAddrPort(dial(t, first).conn.RemoteAddr().String())
	if _, err := Open(addr); err != unix.EADDRINUSE {
		t.Errorf("a group: %v", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(netip.AddrPortFrom(addr.Addr(), uint16(bound.(*unix.SockaddrInet4).Port))); err != unix.EADDRINUSE {
		t.Errorf("a socket of SO_REUSEADDR: %v", err)
	}
}

// TestBlocking: the sockets are in blocking mode, as others are when a worker gets them.
func TestBlocking(t *testing.T) {
	t.Parallel()
	for _, fd := range open(t, netip.MustParseAddrPort("127.0.0.1:0")).FDs {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("flags %#x, %v", flags, err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor flags %#x, %v", flags, err)
		}
	}
}

// lives is a superdaemon with a group, whose workers are not processes.
type lives struct {
	t       testing.TB
	g       *Group
	client  client
	workers []Worker
}

func newLives(t testing.TB) *lives {
	g := open(t, netip.MustParseAddrPort("127.0.0.1:0"))
	return &lives{t: t, g: g, client: dial(t, g)}
}

func (l *lives) route() {
	l.t.Helper()
	if err := l.g.Route(l.workers); err != nil {
		l.t.Fatal(err)
	}
}

// start starts a worker, and returns the index of its place.
func (l *lives) start(generation int) int {
	l.t.Helper()
	l.route()
	fd, err := l.g.Take(generation)
	if err != nil {
		l.t.Fatal(err)
	}
	l.workers = append(l.workers, Worker{Generation: generation})
	return slices.Index(l.g.FDs, fd)
}

func (l *lives) started(generation int) {
	l.t.Helper()
	for i := range l.workers {
		if l.workers[i].Generation == generation {
			l.workers[i].Started = true
		} else {
			l.workers[i].StopSent = true
		}
	}
	l.route()
}

func (l *lives) end(generation int) {
	l.t.Helper()
	l.workers = slices.DeleteFunc(l.workers, func(w Worker) bool { return w.Generation == generation })
	l.route()
}

// expect sends a packet, and checks which place gets it.
func (l *lives) expect(payload []byte, want int) {
	l.t.Helper()
	l.client.send(payload)
	if got, _ := receive(l.t, l.g); got != want {
		l.t.Fatalf("packet %.12x is at index %d, want %d; places %v, workers %+v", payload, got, want, l.g.Places, l.workers)
	}
}

var initial = []byte("\xc0\x00\x00\x00\x01\x08ABCDEFGH0123456789")

func TestSwap(t *testing.T) {
	t.Parallel()
	l := newLives(t)
	one := l.start(1)
	l.expect(initial, one) // no other can serve
	l.started(1)
	two := l.start(2)
	l.expect(initial, one)
	l.started(2)
	l.expect(initial, two)
	l.expect(short(1), one)
	l.expect(long(2), two)
	l.end(1)
	l.expect(short(1), two)
	if three := l.start(3); three != one {
		t.Errorf("generation 3 has place %d, want that of generation 1, %d", three, one)
	}
	if len(l.g.FDs) != 2 {
		t.Errorf("%d places", len(l.g.FDs))
	}
}

// TestLingering: when more generations live than there are places, the group grows, and the places
// of those that have ended are taken again.
func TestLingering(t *testing.T) {
	t.Parallel()
	l := newLives(t)
	places := map[int]int{}
	for generation := 1; generation <= 5; generation++ {
		places[generation] = l.start(generation)
		l.started(generation)
		for old, place := range places {
			l.expect(short(old), place)
		}
		l.expect(initial, places[generation])
	}
	l.end(2)
	l.end(4)
	six, seven := l.start(6), 0
	l.started(6)
	seven = l.start(7)
	if got := []int{six, seven}; !slices.Contains(got, places[2]) || !slices.Contains(got, places[4]) || len(l.g.FDs) != 5 {
		t.Errorf("places %v of %d, want %d and %d of 5", got, len(l.g.FDs), places[2], places[4])
	}
}

func TestFailedStart(t *testing.T) {
	t.Parallel()
	l := newLives(t)
	one := l.start(1)
	l.started(1)
	for generation := 2; generation < 6; generation++ {
		l.start(generation)
		l.expect(initial, one)
		l.end(generation)
		l.expect(initial, one)
	}
	if len(l.g.FDs) != 2 {
		t.Errorf("%d places", len(l.g.FDs))
	}
}

// TestWaiting: packets wait while no worker serves, and those of a place that was used are dropped.
func TestWaiting(t *testing.T) {
	t.Parallel()
	l := newLives(t)
	one := l.start(1)
	l.started(1)
	l.client.send(initial) // is not read
	l.end(1)               // dies while serving
	l.start(2)
	l.end(2) // fails
	three := l.start(3)
	if _, payload := receive(t, l.g); three != one || payload != string(initial) {
		t.Fatalf("generation 3 has place %d and %q, want %d", three, payload, one)
	}
	l.started(3)
	l.start(4)
	l.started(4)
	l.client.send(short(3))
	l.end(3)
	five := l.start(5)
	l.expect(initial, l.g.Places[4]) // the packet of generation 3 is nowhere
	if five != three || len(l.g.FDs) != 2 {
		t.Errorf("generation 5 has place %d of %d", five, len(l.g.FDs))
	}
}

// TestStopFirst: once the only worker was told to stop, what is new waits for the next one.
func TestStopFirst(t *testing.T) {
	t.Parallel()
	l := newLives(t)
	one := l.start(1)
	l.started(1)
	l.workers[0].StopSent = true
	l.route()
	l.expect(short(1), one)
	l.client.send(initial)
	l.end(1)
	if two := l.start(2); two == one {
		t.Errorf("generation 2 has the place of generation 1")
	} else if index, _ := receive(t, l.g); index != two {
		t.Errorf("the packet waits in %d, want %d", index, two)
	}
}

// TestAdopt: the socket of a worker that does not share it becomes a group of itself, and so
// does a group.
func TestAdopt(t *testing.T) {
	t.Parallel()
	plain, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(plain, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	g, err := Adopt([]int{plain}, map[int]int{1: plain, 2: plain})
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(g)
	l := &lives{t: t, g: g, client: dial(t, g), workers: []Worker{{1, true, true}, {2, true, false}}}
	l.route()
	l.expect(initial, 0)
	if three := l.start(3); three != 1 {
		t.Errorf("generation 3 has place %d", three)
	}
	l.started(3)
	l.expect(short(1), 0)
	l.expect(short(2), 0)
	l.expect(initial, 1)
}

// TestAdoptOrder: sockets of the group were closed, others have taken their indexes, and packets
// arrive all the time.
func TestAdoptOrder(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		g, err := Open(netip.MustParseAddrPort(addr))
		if err != nil {
			if strings.HasPrefix(addr, "[") {
				continue
			}
			t.Fatal(err)
		}
		for range 3 {
			if err := g.grow(); err != nil {
				t.Fatal(err)
			}
		}
		unix.Close(g.FDs[0]) // [4 1 2 3]
		unix.Close(g.FDs[1]) // [4 3 2]
		left := []int{g.FDs[2], g.FDs[3], g.FDs[4]}
		adopted, err := Adopt(left, map[int]int{3: left[0], 4: left[1], 5: left[2]})
		if err != nil {
			t.Fatal(err)
		}
		defer closeAll(adopted)
		if got, want := adopted.FDs[:3], []int{left[2], left[1], left[0]}; !slices.Equal(got, want) {
			t.Errorf("%s: order %v, want %v", addr, got, want)
		}
		l := &lives{t: t, g: adopted, client: dial(t, adopted), workers: []Worker{{3, true, true}, {4, true, true}, {5, true, false}}}
		l.route()
		l.expect(short(3), 2)
		l.expect(short(4), 1)
		l.expect(short(5), 0)
		l.expect(initial, 0)
		if six := l.start(6); six != 3 {
			t.Errorf("%s: generation 6 has place %d", addr, six)
		}
		l.started(6)
		l.expect(initial, 3)
		l.expect([]byte("12345678"), 3) // no filter is left
	}
}

// TestState: a group continues from what was written by another superdaemon.
func TestState(t *testing.T) {
	t.Parallel()
	l := newLives(t)
	for generation := 1; generation <= 3; generation++ {
		l.start(generation)
		l.started(generation)
	}
	text, err := json.Marshal(l.g)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"fds":[%d,%d,%d],"places":{"1":0,"2":1,"3":2},"newest":2}`, l.g.FDs[0], l.g.FDs[1], l.g.FDs[2])
	if string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
	l.g = &Group{}
	if err := json.Unmarshal(text, l.g); err != nil || !l.g.Valid() {
		t.Fatal(err)
	}
	l.route()
	l.expect(short(2), 1)
	l.end(1)
	if l.start(4) != 0 {
		t.Error("generation 4 has not the place of generation 1")
	}
	for _, wrong := range []Group{{}, {FDs: []int{3}, Newest: 1}, {FDs: []int{3}, Newest: -1}, {FDs: []int{3}, Places: map[int]int{1: 1}}} {
		if wrong.Valid() {
			t.Errorf("%+v is valid", wrong)
		}
	}
}

// TestRandom runs random lives of generations. Each living generation has a place of its own and its
// packets, the newest that has started gets the rest, and there are no more places than needed.
func TestRandom(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	l := newLives(t)
	most := 0
	for generation := 1; generation <= 300; {
		starting := len(l.workers) > 0 && !l.workers[len(l.workers)-1].Started
		switch n := random.IntN(5); {
		case n < 2 && !starting && len(l.workers) < 8:
			l.start(generation)
			generation++
		case n == 2 && starting:
			l.started(l.workers[len(l.workers)-1].Generation)
		case n > 2 && len(l.workers) > 0:
			l.end(l.workers[random.IntN(len(l.workers))].Generation)
		}
		most = max(most, len(l.workers))
		used := slices.Sorted(maps.Values(l.g.Places))
		if len(used) != len(l.workers) || len(slices.Compact(used)) != len(l.workers) || len(l.g.FDs) > max(2, most+1) {
			t.Fatalf("places %v of %d, workers %+v", l.g.Places, len(l.g.FDs), l.workers)
		}
		want := l.g.Newest // waiting
		for _, w := range l.workers {
			l.expect(short(w.Generation), l.g.Places[w.Generation])
			if !w.StopSent && (w.Started || !slices.ContainsFunc(l.workers, func(w Worker) bool { return w.Started && !w.StopSent })) {
				want = l.g.Places[w.Generation]
			}
		}
		l.expect(initial, want)
	}
}
