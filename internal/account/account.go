// Package account looks up users and groups in /etc/passwd and /etc/group. Package os/user does so
// only in binaries that are built without cgo; in others it asks the C library, which may return
// something else (nsswitch.conf(5)).
package account

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// User is an account that a process can run as.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary, GID included
	Name     string   // Name, Home and Shell are "" for a number that passwd(5) does not list
	Home     string
	Shell    string
}

// Unchanged is the value of Owner.UID or Owner.GID that leaves the ID unchanged, as in chown(2).
const Unchanged = -1

// Owner is the owner of a file.
type Owner struct{ UID, GID int }

// String returns UID:GID as for chown(1), each empty if unchanged.
func (o Owner) String() string {
	number := func(id int) string {
		if id == Unchanged {
			return ""
		}
		return strconv.Itoa(id)
	}
	return number(o.UID) + ":" + number(o.GID)
}

// Database names the files that accounts are read from. If they do not exist, only numbers are
// found.
type Database struct{ Passwd, Group string }

// System is the database of this system.
var System = Database{Passwd: "/etc/passwd", Group: "/etc/group"}

// User looks up USER or USER:GROUP, each a name or a number. If no group is given, it is the one in
// passwd(5) or, for a number that is not listed there, the group of the same number. The
// supplementary groups are those of group(5), as for a login.
func (d Database) User(spec string) (User, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	u, err := d.user(name)
	if err != nil {
		return User{}, err
	}
	if hasGroup {
		if u.GID, err = d.group(group); err != nil {
			return User{}, err
		}
	}
	u.Groups, err = d.groupsOf(u)
	return u, err
}

// Owner looks up USER, USER:GROUP or :GROUP, each a name or a number.
func (d Database) Owner(spec string) (Owner, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	owner := Owner{Unchanged, Unchanged}
	if name != "" || !hasGroup {
		u, err := d.user(name)
		if err != nil {
			return owner, err
		}
		owner.UID = int(u.UID)
	}
	if hasGroup {
		gid, err := d.group(group)
		if err != nil {
			return owner, err
		}
		owner.GID = int(gid)
	}
	return owner, nil
}

// user looks up a name, or a number if there is no such name, as chown(1) does.
func (d Database) user(name string) (User, error) {
	lines, err := lines(d.Passwd, 7)
	if err != nil {
		return User{}, err
	}
	number, isNumber := parseID(name)
	at := slices.IndexFunc(lines, func(f []string) bool { return f[0] == name })
	if at < 0 && isNumber {
		at = slices.IndexFunc(lines, func(f []string) bool { return f[2] == strconv.Itoa(int(number)) })
	}
	switch {
	case at < 0 && isNumber:
		return User{UID: number, GID: number}, nil
	case at < 0:
		return User{}, fmt.Errorf("no user %q in %s", name, d.Passwd)
	}
	f := lines[at]
	uid, ok1 := parseID(f[2])
	gid, ok2 := parseID(f[3])
	if !ok1 || !ok2 {
		return User{}, fmt.Errorf("%s: user %q has the IDs %q and %q, which are not numbers", d.Passwd, f[0], f[2], f[3])
	}
	return User{UID: uid, GID: gid, Name: f[0], Home: f[5], Shell: f[6]}, nil
}

// group looks up a name, or a number if there is no such name.
func (d Database) group(name string) (uint32, error) {
	lines, err := lines(d.Group, 4)
	if err != nil {
		return 0, err
	}
	for _, f := range lines {
		if gid, ok := parseID(f[2]); ok && f[0] == name {
			return gid, nil
		}
	}
	if gid, ok := parseID(name); ok {
		return gid, nil
	}
	return 0, fmt.Errorf("no group %q in %s", name, d.Group)
}

// groupsOf returns the group of the user and the groups that list the user as a member.
func (d Database) groupsOf(u User) ([]uint32, error) {
	groups := []uint32{u.GID}
	if u.Name == "" {
		return groups, nil
	}
	lines, err := lines(d.Group, 4)
	if err != nil {
		return nil, err
	}
	for _, f := range lines {
		gid, ok := parseID(f[2])
		if ok && !slices.Contains(groups, gid) && slices.Contains(strings.Split(f[3], ","), u.Name) {
			groups = append(groups, gid)
		}
	}
	return groups, nil
}

// parseID parses a user or group ID. It rejects the largest number, which means "unchanged" to the
// system.
func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n < 1<<32-1 && s[0] != '+'
}

// lines returns the entries of a file that have at least the given number of fields. A file that
// does not exist has none.
func lines(file string, fields int) (entries [][]string, err error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) >= fields && f[0] != "" && !strings.ContainsAny(f[0][:1], "#+-") {
			entries = append(entries, f)
		}
	}
	return entries, nil
}
