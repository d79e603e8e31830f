//go:build !linux

package socket

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/account"
)

func (s *Socket) setAccess(access Access) error {
	if access.Owner.UID != account.Unchanged || access.Owner.GID != account.Unchanged {
		if err := unix.Lchown(s.Path, access.Owner.UID, access.Owner.GID); err != nil {
			return fmt.Errorf("change owner to %s: %w", access.Owner, err)
		}
	}
	return unix.Fchmodat(unix.AT_FDCWD, s.Path, access.Mode, unix.AT_SYMLINK_NOFOLLOW)
}
