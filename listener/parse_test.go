package listener

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		variable string
		want     List
	}{
		{"80=3", List{TCPListener{"0.0.0.0", 80, 3, ""}}},
		{"0=3", List{TCPListener{"0.0.0.0", 0, 3, ""}}},
		{"127.0.0.1:80=0", List{TCPListener{"127.0.0.1", 80, 0, ""}}},
		{"localhost:80=3", List{TCPListener{"localhost", 80, 3, ""}}},
		{"my_host.example-1.org:65535=3", List{TCPListener{"my_host.example-1.org", 65535, 3, ""}}},
		{"[::1]:80=3", List{TCPListener{"::1", 80, 3, ""}}},
		{"[fe80::1%eth0]:80=3", List{TCPListener{"fe80::1%eth0", 80, 3, ""}}},
		{"080=03", List{TCPListener{"0.0.0.0", 80, 3, ""}}},
		{"0.0.0.0:80=3", List{TCPListener{"0.0.0.0", 80, 3, ""}}},
		{"::1:080=3", List{TCPListener{"::1", 80, 3, ""}}},
		{"x.sock=03", List{UnixListener{"x.sock", 3, ""}}},
		{":80=3", List{TCPListener{"", 80, 3, ""}}},
		{"/run/app.sock=3", List{UnixListener{"/run/app.sock", 3, ""}}},
		{"/path/with=equals.sock=3", List{UnixListener{"/path/with=equals.sock", 3, ""}}},
		{"/path=3=4", List{UnixListener{"/path=3", 4, ""}}},
		{"/path:80=3", List{UnixListener{"/path:80", 3, ""}}},
		{"./x.sock=3", List{UnixListener{"./x.sock", 3, ""}}},
		{"x.sock=3", List{UnixListener{"x.sock", 3, ""}}},
		{"@name=3", List{UnixListener{"@name", 3, ""}}},
		{"@name:80=3", List{UnixListener{"@name:80", 3, ""}}},
		{" a b =3", List{UnixListener{" a b ", 3, ""}}},
		{"[no address]:80=3", List{UnixListener{"[no address]:80", 3, ""}}},
		{"80=3;[::1]:80=4;/run/app.sock=2147483647", List{
			TCPListener{"0.0.0.0", 80, 3, ""}, TCPListener{"::1", 80, 4, ""}, UnixListener{"/run/app.sock", 2147483647, ""},
		}},
	}
	for _, test := range tests {
		t.Setenv(ServerStarterEnvVarName, test.variable)
		got, err := Ports()
		if err != nil || !reflect.DeepEqual(withoutEntries(got), test.want) {
			t.Errorf("%q: got %#v, %v", test.variable, got, err)
		}
		if got.String() != test.variable {
			t.Errorf("%q is written as %q", test.variable, got)
		}
	}
}

// withoutEntries returns the sockets as if they had not been made from entries.
func withoutEntries(list List) List {
	var bare List
	for _, target := range list {
		switch l := target.(type) {
		case TCPListener:
			bare = append(bare, TCPListener{l.Addr, l.Port, l.fd, ""})
		case UnixListener:
			bare = append(bare, UnixListener{l.Path, l.fd, ""})
		}
	}
	return bare
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ variable, entry, reason string }{
		{"80", "80", "no =descriptor at the end"},
		{"80=3;", "", "no =descriptor at the end"},
		{";80=3", "", "no =descriptor at the end"},
		{"80=3;/run/app.sock", "/run/app.sock", "no =descriptor at the end"},
		{"=3", "=3", "no address in front of the descriptor"},
		{"80=", "80=", `descriptor "" is not a number from 0 to 2147483647`},
		{"80=-1", "80=-1", `descriptor "-1" is not a number from 0 to 2147483647`},
		{"80=+1", "80=+1", `descriptor "+1" is not a number from 0 to 2147483647`},
		{"80= 3", "80= 3", `descriptor " 3" is not a number from 0 to 2147483647`},
		{"80=2147483648", "80=2147483648", `descriptor "2147483648" is not a number from 0 to 2147483647`},
		{"80=99999999999999999999", "80=99999999999999999999",
			`descriptor "99999999999999999999" is not a number from 0 to 2147483647`},
		{"65536=3", "65536=3", "port 65536 is greater than 65535"},
		{"localhost:99999999999999999999=3", "localhost:99999999999999999999=3",
			"port 99999999999999999999 is greater than 65535"},
	}
	for _, test := range tests {
		t.Setenv(ServerStarterEnvVarName, test.variable)
		want := `read SERVER_STARTER_PORT: entry "` + test.entry + `": ` + test.reason
		if got, err := Ports(); got != nil || err == nil || err.Error() != want {
			t.Errorf("%q: got %v, %v, want %s", test.variable, got, err, want)
		}
		if _, err := Listen("tcp", ":80"); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: Listen: got %v", test.variable, err)
		}
		if _, err := ListenAll(); err == nil || err.Error() != want {
			t.Errorf("%q: ListenAll: got %v", test.variable, err)
		}
	}
}

// IPv6 may be written with brackets in Addr.
func TestBrackets(t *testing.T) {
	if got := (TCPListener{"[::1]", 80, 3, ""}).String(); got != "[::1]:80=3" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "80", "80=3", "=3", "80=-1", "127.0.0.1:80=3", "[::1]:80=4;/run/a=b.sock=5", "::1:80=3", "[fe80::1%1]:80=3",
		":80=3", "@a:1=2", "0080=003", "80=99999999999999999999", "99999=3", ";;", "[]:80=3", "[::1:80=3", "\x00=1", "é:80=3", "::%]:0=0",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, variable string) {
		list, err := parse(variable)
		if err != nil {
			if list != nil {
				t.Fatalf("%v with error %v", list, err)
			}
			return
		}
		again, err := parse(list.String())
		if err != nil || !reflect.DeepEqual(again, list) {
			t.Fatalf("%q is written as %q and read as %#v, %v", variable, list, again, err)
		}
	})
}
