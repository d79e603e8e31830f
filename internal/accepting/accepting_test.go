package accepting

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPause(t *testing.T) {
	for _, test := range []struct{ elapsed, cost, want time.Duration }{
		{0, 0, 10 * time.Millisecond},
		{time.Second, time.Millisecond, 20 * time.Millisecond},
		{3 * time.Second, 0, 60 * time.Millisecond},
		{time.Minute, 0, 250 * time.Millisecond},
		{0, time.Second, time.Second},
		{0, time.Minute, time.Second},
	} {
		if got := pause(test.elapsed, test.cost); got != test.want {
			t.Errorf("pause(%v, %v) = %v, want %v", test.elapsed, test.cost, got, test.want)
		}
	}
}

func TestParseCall(t *testing.T) {
	c, ok := parseCall("288 0x3 0x7ffd0e507a48 0x10 0x0 0x0 0x0 0x7ffd0e507a00 0x7fb20d88e2ad\n")
	if !ok || c.number != 288 || c.args[0] != 3 || c.args[2] != 16 || c.stack != 0x7ffd0e507a00 {
		t.Errorf("parsed %+v, %v", c, ok)
	}
	for _, line := range []string{"", "running\n", "-1 0x7ffd0e507a00 0x7fb20d88e2ad\n", "288 0x3", "x 0 0 0 0 0 0 0 0"} {
		if c, ok := parseCall(line); ok {
			t.Errorf("parseCall(%q) = %+v", line, c)
		}
	}
}

// at returns memory that holds b at an address.
func at(address uint64, b []byte) func(uint64, int) []byte {
	return func(a uint64, size int) []byte {
		if a != address {
			return nil
		}
		return b[:min(size, len(b))]
	}
}

// TestWaitsFor checks the calls of each architecture, by their numbers in
// golang.org/x/sys/unix/zsysnum_linux_*.go.
func TestWaitsFor(t *testing.T) {
	const memory = 0x1000
	little, big := binary.ByteOrder(binary.LittleEndian), binary.ByteOrder(binary.BigEndian)
	for _, test := range []struct {
		arch                    string
		order                   binary.ByteOrder
		word                    int
		accepts, polls, selects []uint64
		socketcall              uint64
		epollWait, nanosleep    uint64
	}{
		{"amd64", little, 8, []uint64{43, 288}, []uint64{7, 271, 219}, []uint64{23, 270}, 0, 232, 35},
		{"386", little, 4, []uint64{364}, []uint64{168, 309, 414, 0}, []uint64{142, 308, 413}, 102, 256, 162},
		{"arm64", little, 8, []uint64{202, 242}, []uint64{73}, []uint64{72}, 0, 22, 101},
		{"riscv64", little, 8, []uint64{202, 242}, []uint64{73}, []uint64{72}, 0, 22, 101},
		{"loong64", little, 8, []uint64{202, 242}, []uint64{73}, []uint64{72}, 0, 22, 101},
		{"arm", little, 4, []uint64{285, 366}, []uint64{168, 336, 414, 0}, []uint64{142, 335, 413}, 0, 252, 162},
		{"ppc64le", little, 8, []uint64{330, 344}, []uint64{167, 281, 0}, []uint64{142, 280}, 102, 238, 162},
		{"s390x", big, 8, []uint64{364}, []uint64{168, 302, 7}, []uint64{142, 301}, 102, 251, 162},
	} {
		long := func(words ...uint64) (b []byte) {
			for _, n := range words {
				word := make([]byte, test.word)
				if test.word == 4 {
					test.order.PutUint32(word, uint32(n))
				} else {
					test.order.PutUint64(word, n)
				}
				b = append(b, word...)
			}
			return b
		}
		check := func(name string, number uint64, b []byte, want []int, args ...uint64) {
			t.Helper()
			c := call{number: number, stack: 1 << 40}
			if test.word == 4 {
				c.stack = 1 << 31
			}
			copy(c.args[:], args)
			a, ok := c.abi(test.arch)
			if got := a.waitsFor(c, at(memory, b)); !ok || !slices.Equal(got, want) {
				t.Errorf("%s: %s (%d): waits for %v, want %v", test.arch, name, number, got, want)
			}
		}
		for _, n := range test.accepts {
			check("accept", n, nil, []int{5}, 5, 0, 0)
		}
		var array []byte
		for _, p := range []struct {
			fd     int32
			events uint16
		}{{5, 1}, {6, 4}, {-1, 1}, {7, 0x40}} {
			entry := []byte{0, 0, 0, 0, 0, 0, 0xff, 0xff} // with revents
			test.order.PutUint32(entry, uint32(p.fd))
			test.order.PutUint16(entry[4:], p.events)
			array = append(array, entry...)
		}
		for _, n := range test.polls {
			check("poll", n, array, []int{5, -1, 7}, memory, 4)
			check("poll of memory that is gone", n, nil, nil, memory, 4)
			check("poll of a part", n, array, []int{5}, memory, 1)
			check("poll of nothing", n, array, nil, 0, 0)
			check("poll of too many", n, array, nil, memory, memory<<20)
		}
		set := long(1<<5|1<<31, 1<<2|1<<3)
		bits := 8 * test.word
		for _, n := range test.selects {
			check("select", n, set, []int{5, 31, bits + 2}, uint64(bits+3), memory)
			check("select of a part", n, set, []int{5}, 31, memory)
			check("select for writing only", n, set, nil, uint64(bits+3), 0, memory)
		}
		if n := test.socketcall; n != 0 {
			check("socketcall accept", n, long(9, 0, 0), []int{9}, 5, memory)
			check("socketcall accept4", n, long(9, 0, 0, 0), []int{9}, 18, memory)
			check("socketcall recv", n, long(9, 0, 0, 0), nil, 10, memory)
			check("socketcall of memory that is gone", n, nil, nil, 5, memory)
		}
		check("epoll_wait", test.epollWait, array, nil, 5, memory, 4) // seen in fdinfo
		check("nanosleep", test.nanosleep, array, nil, memory, memory)
	}
	if _, ok := (call{}).abi("mips"); ok {
		t.Error("the calls of an unknown architecture are known")
	}
	if a, _ := (call{stack: 1 << 40}).abi("386"); a.word != 8 {
		t.Error("a 64-bit program is not one for a 32-bit start_server")
	}
}

func TestParseEpoll(t *testing.T) {
	const info = "pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t43\n" +
		"tfd:        5 events:       19 data:                5  pos:0 ino:2f0e sdev:8\n" +
		"tfd:        6 events:        4 data:                6  pos:0 ino:2f0f sdev:8\n" +
		"tfd:        7 events: 80002019 data: ffff00000007  pos:0 ino:2f10 sdev:8\n" +
		"tfd:        8 events:       40 data:                8  pos:0 ino:2f11 sdev:8\n" +
		"tfd:        9 events:        1 data: 9\n"
	if got, want := parseEpoll(info), []uint64{0x2f0e, 0x2f10, 0x2f11}; !slices.Equal(got, want) {
		t.Errorf("waits for %x, want %x", got, want)
	}
}

const tcpTable = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
	"   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0 100 0 0 10 0\n" +
	"   1: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0\n" +
	"   2: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 102 1 0 20 4 0 10 -1\n" +
	"   3: 0100007F:C000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 103 1 0 20 4 0 10 -1\n" +
	"   4: 0100007F:1F91 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 104 1 0 20 4 0 10 -1\n" +
	"   5: 0200007F:1F91 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 105 1 0 20 4 0 10 -1\n"

const unixTable = "Num       RefCount Protocol Flags    Type St Inode Path\n" +
	"0000000000000000: 00000002 00000000 00010000 0001 01 200 /tmp/a b\n" +
	"0000000000000000: 00000003 00000000 00000000 0001 03 201 /tmp/a b\n" +
	"0000000000000000: 00000003 00000000 00000000 0001 03 202\n" +
	"0000000000000000: 00000003 00000000 00000000 0001 03 203 /tmp/a\n"

func TestAccepted(t *testing.T) {
	tcp6 := strings.ReplaceAll(strings.ReplaceAll(tcpTable, " 00000000:1F90", " "+strings.Repeat("0", 32)+":1F90"),
		" 0100007F:", " 0000000000000000FFFF00000100007F:")
	for _, test := range []struct {
		table       string
		connections []uint64
		want        []uint64
	}{
		{tcpTable, []uint64{102}, []uint64{100}},
		{tcp6, []uint64{102}, []uint64{100}},
		{tcpTable, []uint64{103}, nil}, // a client of the same port
		{tcpTable, []uint64{104}, []uint64{101}},
		{tcpTable, []uint64{105}, nil}, // another address
		{tcpTable, nil, nil},
		{unixTable, []uint64{201}, []uint64{200}},
		{unixTable, []uint64{202, 203}, nil},
		{"", []uint64{102}, nil},
	} {
		connections := map[uint64]bool{}
		for _, inode := range test.connections {
			connections[inode] = true
		}
		listening := func(inode uint64) bool { return inode%100 < 2 && inode != 201 }
		if got := accepted(test.table, listening, connections); !slices.Equal(got, test.want) {
			t.Errorf("%v accepted %v, want %v in\n%s", got, test.connections, test.want, test.table)
		}
	}
}

// FuzzParse checks that no text and no memory of a worker makes the parsers fail, and that they find
// only what is there.
func FuzzParse(f *testing.F) {
	f.Add("7 0x1000 0x2 0x0 0x0 0x0 0x0 0x7ffd0e507a00 0x7fb20d88e2ad\n", []byte("\x05\x00\x00\x00\x01\x00\x00\x00"))
	f.Add("142 0x40 0x1000 0x0 0x0 0x0 0x0 0xffff 0x1", []byte("\x20\x00\x00\x80\xff\xff\xff\xff"))
	f.Add("102 0x5 0x1000 0x0 0x0 0x0 0x0 0xffff 0x1", []byte("\x20\x00\x00\x00"))
	f.Add(tcpTable+unixTable, []byte("tfd: 5 events: 19 data: 5  pos:0 ino:2f0e sdev:8\n"))
	f.Fuzz(func(t *testing.T, line string, memory []byte) {
		c, _ := parseCall(line)
		for _, known := range abis {
			a, _ := c.abi(known.arch)
			fds := a.waitsFor(c, func(_ uint64, size int) []byte { return memory[:min(size, len(memory))] })
			if len(fds) > 8*len(memory)+1 {
				t.Errorf("%s: %d descriptors in %d bytes", known.arch, len(fds), len(memory))
			}
		}
		if n := len(parseEpoll(string(memory))); n > strings.Count(string(memory), "ino:") {
			t.Errorf("%d files", n)
		}
		parseSocket(line)
		for _, inode := range accepted(line, func(inode uint64) bool { return inode%2 == 0 }, map[uint64]bool{101: true, 201: true}) {
			if inode%2 != 0 {
				t.Errorf("%d does not listen", inode)
			}
		}
	})
}
