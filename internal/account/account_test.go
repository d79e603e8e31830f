package account

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const passwd = `root:x:0:0:root:/root:/bin/bash
# a comment: with: many: fields: and: more: x
+nis::::::
www:x:33:33:www:/var/www:/usr/sbin/nologin
4242:x:7:8:a name made of digits:/home/odd:/bin/sh
short:x:1
broken:x:one:two:::
`

const group = `root:x:0:
www:x:33:
ssl:x:110:www,other
log:x:111:other,www
not:x:112:wwww
same:x:33:www
bad:x:nan:www
`

func database(t *testing.T) Database {
	dir := t.TempDir()
	d := Database{filepath.Join(dir, "passwd"), filepath.Join(dir, "group")}
	for file, text := range map[string]string{d.Passwd: passwd, d.Group: group} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestUser(t *testing.T) {
	t.Parallel()
	d := database(t)
	www := User{UID: 33, GID: 33, Groups: []uint32{33, 110, 111}, Name: "www", Home: "/var/www", Shell: "/usr/sbin/nologin"}
	other := www
	other.GID, other.Groups = 5, []uint32{5, 110, 111, 33}
	for spec, want := range map[string]User{
		"www":       www,
		"33":        www,
		"www:33":    www,
		"www:www":   www,
		"www:5":     other,
		"4242":      {UID: 7, GID: 8, Groups: []uint32{8}, Name: "4242", Home: "/home/odd", Shell: "/bin/sh"},
		"1000":      {UID: 1000, GID: 1000, Groups: []uint32{1000}},
		"1000:ssl":  {UID: 1000, GID: 110, Groups: []uint32{110}},
		"1000:2000": {UID: 1000, GID: 2000, Groups: []uint32{2000}},
	} {
		got, err := d.User(spec)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", spec, err, diff)
		}
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	d := database(t)
	for spec, want := range map[string]Owner{
		"www":     {33, Unchanged},
		"www:ssl": {33, 110},
		":ssl":    {Unchanged, 110},
		":9":      {Unchanged, 9},
		"0:0":     {0, 0},
	} {
		if got, err := d.Owner(spec); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", spec, got, err, want)
		}
	}
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	d := database(t)
	for spec, want := range map[string]string{
		"":           `no user ""`,
		":":          `no user ""`,
		"nobody":     `no user "nobody"`,
		"short":      `no user "short"`,
		"#":          `no user "#"`,
		"+1":         `no user "+1"`,
		"-1":         `no user "-1"`,
		"4294967295": `no user "4294967295"`,
		"www:":       `no group ""`,
		"www:none":   `no group "none"`,
		"www:bad":    `no group "bad"`,
		"broken":     `user "broken" has the IDs "one" and "two"`,
	} {
		if u, err := d.User(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %+v, %v, want %s", spec, u, err, want)
		}
	}
	for spec, want := range map[string]string{"": `no user ""`, ":": `no group ""`, "www:": `no group ""`, "x:www": `no user "x"`} {
		if o, err := d.Owner(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %+v, %v, want %s", spec, o, err, want)
		}
	}
}

// TestNoFiles checks an image without /etc/passwd and /etc/group.
func TestNoFiles(t *testing.T) {
	t.Parallel()
	d := Database{filepath.Join(t.TempDir(), "passwd"), filepath.Join(t.TempDir(), "group")}
	if u, err := d.User("7:8"); err != nil || u.UID != 7 || u.GID != 8 {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := d.User("www"); err == nil || !strings.Contains(err.Error(), `no user "www"`) {
		t.Error(err)
	}
	if o, err := d.Owner("7:8"); err != nil || o != (Owner{7, 8}) {
		t.Errorf("%+v, %v", o, err)
	}
	d.Passwd, d.Group = t.TempDir(), t.TempDir() // cannot be read
	for _, spec := range []string{"7", "7:8"} {
		if _, err := d.User(spec); err == nil {
			t.Errorf("%q: no error", spec)
		}
	}
}

func FuzzUser(f *testing.F) {
	f.Add("www:ssl", passwd, group)
	f.Add("1:1", ":::::::\n", "\x00:,:0:,")
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		dir := t.TempDir()
		d := Database{filepath.Join(dir, "passwd"), filepath.Join(dir, "group")}
		_ = os.WriteFile(d.Passwd, []byte(passwd), 0o600)
		_ = os.WriteFile(d.Group, []byte(group), 0o600)
		if u, err := d.User(spec); err == nil && (len(u.Groups) == 0 || u.Groups[0] != u.GID) {
			t.Errorf("%+v", u)
		}
		_, _ = d.Owner(spec)
	})
}
