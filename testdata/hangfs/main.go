//go:build linux

// Command hangfs runs a program that sees a directory in a file system that hangs, as one does
// whose server is gone:
//
//	hangfs MOUNTPOINT DIRECTORY SWITCH PROGRAM ARG...
//
// DIRECTORY is shown at MOUNTPOINT, read-only, to PROGRAM and its children only. While the file
// SWITCH exists no request is answered, and not even KILL ends a process that waits for an answer.
// It exits as PROGRAM does.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 5 {
		fmt.Fprintln(os.Stderr, "usage: hangfs MOUNTPOINT DIRECTORY SWITCH PROGRAM ARG...")
		os.Exit(2)
	}
	device := mount(os.Args[1])
	fs := &fileSystem{device: device, paths: []string{"", os.Args[2]}, hang: os.Args[3]}
	go fs.serve()
	cmd := exec.Command(os.Args[4], os.Args[5:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "hangfs:", err)
		os.Exit(1)
	}
}

// mount mounts the file system in a mount namespace of its own, which ends with its last process.
func mount(at string) (device int) {
	runtime.LockOSThread() // the namespace is the thread's: main has to start the program
	must(unix.Unshare(unix.CLONE_NEWNS))
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(err)
	must(os.MkdirAll(at, 0o755))
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device)
	must(unix.Mount("hangfs", at, "fuse.hangfs", unix.MS_RDONLY, options))
	return device
}

// fileSystem answers the requests of fuse(4).
type fileSystem struct {
	device int
	hang   string

	mu    sync.Mutex
	paths []string // by node id; the root is 1
}

// The layout of messages, and the numbers, are those of linux/fuse.h.
type (
	header struct {
		Len, Opcode             uint32
		Unique, Node            uint64
		UID, GID, PID           uint32
		TotalExtensions, Unused uint16
	}
	attributes struct {
		Ino, Size, Blocks, Atime, Mtime, Ctime                                         uint64
		AtimeNsec, MtimeNsec, CtimeNsec, Mode, Nlink, UID, GID, Rdev, BlockSize, Flags uint32
	}
)

const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opOpen        = 14
	opRead        = 15
	opRelease     = 18
	opInit        = 26
	opOpendir     = 27
	opReaddir     = 28
	opReleasedir  = 29
	opInterrupt   = 36
	opBatchForget = 42
)

func (fs *fileSystem) serve() {
	for {
		buffer := make([]byte, 1<<20)
		n, err := unix.Read(fs.device, buffer)
		switch err {
		case nil:
			go fs.answer(buffer[:n])
		case unix.EINTR, unix.EAGAIN, unix.ENOENT:
		default:
			return // it is unmounted
		}
	}
}

// answer answers a request when the file system does not hang.
func (fs *fileSystem) answer(request []byte) {
	var h header
	in := bytes.NewReader(request)
	must(binary.Read(in, binary.NativeEndian, &h))
	body := request[len(request)-in.Len():]
	switch h.Opcode {
	case opForget, opBatchForget, opInterrupt:
		return // nothing is to be answered
	}
	for exists(fs.hang) {
		time.Sleep(time.Millisecond)
	}
	reply, errno := fs.handle(h, body)
	var out bytes.Buffer
	put(&out, uint32(16+len(reply)), -int32(errno), h.Unique)
	out.Write(reply)
	_, _ = unix.Write(fs.device, out.Bytes())
}

func (fs *fileSystem) handle(h header, body []byte) ([]byte, unix.Errno) {
	var out bytes.Buffer
	switch h.Opcode {
	case opInit:
		put(&out, uint32(7), uint32(31), uint32(0), uint32(0), uint64(0), uint64(0), [32]byte{})
	case opLookup:
		name, _, _ := bytes.Cut(body, []byte{0})
		path := filepath.Join(fs.path(h.Node), string(name))
		a, errno := attributesOf(path)
		if errno != 0 {
			return nil, errno
		}
		put(&out, fs.node(path), [4]uint64{}, a) // valid for no time: each use asks again
	case opGetattr:
		a, errno := attributesOf(fs.path(h.Node))
		if errno != 0 {
			return nil, errno
		}
		put(&out, [2]uint64{}, a)
	case opOpen, opOpendir:
		put(&out, [2]uint64{})
	case opRead:
		return read(fs.path(h.Node), body), 0
	case opReaddir:
		return list(fs.path(h.Node), body), 0
	case opRelease, opReleasedir:
	default:
		return nil, unix.ENOSYS
	}
	return out.Bytes(), 0
}

func (fs *fileSystem) path(node uint64) string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.paths[node]
}

func (fs *fileSystem) node(path string) uint64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for i, p := range fs.paths {
		if p == path {
			return uint64(i)
		}
	}
	fs.paths = append(fs.paths, path)
	return uint64(len(fs.paths) - 1)
}

func attributesOf(path string) (a attributes, errno unix.Errno) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return a, err.(unix.Errno)
	}
	return attributes{Ino: st.Ino, Size: uint64(st.Size), Mode: st.Mode, Nlink: 1, BlockSize: 4096}, 0
}

// read reads what fuse_read_in asks for: offset and size follow the file handle.
func read(path string, body []byte) []byte {
	text, _ := os.ReadFile(path)
	offset := min(binary.NativeEndian.Uint64(body[8:]), uint64(len(text)))
	size := binary.NativeEndian.Uint32(body[16:])
	return text[offset:min(offset+uint64(size), uint64(len(text)))]
}

// list is the whole directory, in answer to the first request for it.
func list(path string, body []byte) []byte {
	var out bytes.Buffer
	if binary.NativeEndian.Uint64(body[8:]) > 0 {
		return nil
	}
	entries, _ := os.ReadDir(path)
	for i, e := range entries {
		put(&out, uint64(i+2), uint64(i+1), uint32(len(e.Name())), uint32(unix.DT_UNKNOWN), []byte(e.Name()))
		for out.Len()%8 != 0 {
			out.WriteByte(0)
		}
	}
	return out.Bytes()
}

func put(out *bytes.Buffer, values ...any) {
	for _, v := range values {
		must(binary.Write(out, binary.NativeEndian, v))
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "hangfs:", err)
		os.Exit(1)
	}
}
