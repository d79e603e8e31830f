package accepting

import (
	"strconv"
	"strings"
)

// readable are the events of poll and epoll by which a listening socket reports a connection:
// POLLIN and POLLRDNORM.
const readable = 0x1 | 0x40

// parseEpoll returns the inodes of the files that an epoll instance waits for to become readable,
// by lines "tfd: 5 events: 19 data: 5 pos:0 ino:2f0e sdev:8" of its fdinfo (proc_pid_fdinfo(5),
// Linux 4.12). tfd is not always a descriptor of the process: it may have inherited the instance.
func parseEpoll(text string) (inodes []uint64) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != "tfd:" || f[2] != "events:" {
			continue
		}
		events, err := strconv.ParseUint(f[3], 16, 64)
		if err != nil || events&readable == 0 {
			continue
		}
		for _, word := range f[4:] {
			hex, ok := strings.CutPrefix(word, "ino:")
			if inode, err := strconv.ParseUint(hex, 16, 64); ok && err == nil {
				inodes = append(inodes, inode)
			}
		}
	}
	return inodes
}

// parseSocket returns the inode in the link "socket:[INODE]" of a descriptor.
func parseSocket(link string) (inode uint64, ok bool) {
	digits, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 64)
	return inode, err == nil
}

// accepted returns which of the sockets listening have accepted one of the connections, by a table
// like /proc/net/tcp or /proc/net/unix: a connection has the local address of the socket, or its
// port if that listens on every address.
func accepted(table string, listening func(inode uint64) bool, connections map[uint64]bool) (inodes []uint64) {
	own, local := map[uint64]string{}, []string{}
	for line := range strings.Lines(table) {
		inode, address := parseEntry(line)
		switch {
		case address == "":
		case listening(inode):
			own[inode] = address
		case connections[inode]:
			local = append(local, address)
		}
	}
	for inode, address := range own {
		everywhere := strings.TrimLeft(address, "0") // 00000000:1F90
		for _, l := range local {
			if l == address || strings.HasPrefix(everywhere, ":") && strings.HasSuffix(l, everywhere) {
				inodes = append(inodes, inode)
				break
			}
		}
	}
	return inodes
}

// parseEntry parses a line of /proc/net/tcp, tcp6 ("0: 0100007F:1F90 00000000:0000 0A
// 00000000:00000000 00:00000000 00000000 0 0 1234 ...": proc_net_tcp(5)) or unix ("Num: RefCount
// Protocol Flags Type St Inode Path").
func parseEntry(line string) (inode uint64, address string) {
	f := strings.Fields(line)
	if len(f) < 8 {
		return 0, ""
	}
	number, address := f[6], strings.Join(f[7:], " ")
	if len(f) > 9 && strings.Count(f[1], ":") == 1 {
		number, address = f[9], f[1]
	}
	inode, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, ""
	}
	return inode, address
}
