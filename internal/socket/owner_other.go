//go:build !linux

package socket

import "golang.org/x/sys/unix"

// chownSocket changes the owner of a socket file that this process has just made.
func chownSocket(path string, uid, gid int) error { return unix.Lchown(path, uid, gid) }

// SetAccess does nothing: no socket is taken over on this system.
func (s *Socket) SetAccess(Access) error { return nil }
