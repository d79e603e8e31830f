package portspec

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := map[string]Port{
		"80":                  {"80", "", 80, false, -1},
		" 80 ":                {"80", "", 80, false, -1},
		"80\n":                {"80", "", 80, false, -1},
		"\v80":                {"80", "", 80, false, -1},
		"0":                   {"0", "", 0, false, -1},
		"00080":               {"00080", "", 80, false, -1},
		"65535":               {"65535", "", 65535, false, -1},
		"80=3":                {"80", "", 80, false, 3},
		"80 =3 ":              {"80", "", 80, false, 3},
		"80=0":                {"80", "", 80, false, 0},
		"u443":                {"443", "", 443, true, -1},
		"u443=5":              {"443", "", 443, true, 5},
		"u:80":                {"u:80", "u", 80, false, -1},
		"127.0.0.1:80":        {"127.0.0.1:80", "127.0.0.1", 80, false, -1},
		"127.0.0.1:u80=4":     {"127.0.0.1:80", "127.0.0.1", 80, true, 4},
		"127.0.0.1:80=70000":  {"127.0.0.1:80", "127.0.0.1", 80, false, 70000},
		"localhost:80":        {"localhost:80", "localhost", 80, false, -1},
		" localhost : 80":     {"localhost:80", "localhost", 80, false, -1},
		"[localhost]:80":      {"localhost:80", "localhost", 80, false, -1},
		"[localhost:80":       {"localhost:80", "localhost", 80, false, -1},
		"localhost]:80":       {"localhost:80", "localhost", 80, false, -1},
		"[::1]:80":            {"[::1]:80", "::1", 80, false, -1},
		" [ ::1 ] : u80 =4 ":  {"[::1]:80", "::1", 80, true, 4},
		"::1:80":              {"[::1]:80", "::1", 80, false, -1},
		":::80":               {"[::]:80", "::", 80, false, -1},
		"[::ffff:1.2.3.4]:80": {"[::ffff:1.2.3.4]:80", "::ffff:1.2.3.4", 80, false, -1},
	}
	for in, want := range tests {
		got, err := Parse(in)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	tests := map[string]string{
		"":                        "invalid ``port'' value: \"\"",
		"http":                    "invalid ``port'' value: \"http\"",
		"u 80":                    "invalid ``port'' value: \"u 80\"",
		"80= 3":                   "invalid ``port'' value: \"80= 3\"",
		"80=":                     "invalid ``port'' value: \"80=\"",
		"-1":                      "invalid ``port'' value: \"-1\"",
		"0x50":                    "invalid ``port'' value: \"0x50\"",
		"\u0663":                  "invalid ``port'' value",
		"[::1]80":                 "invalid ``port'' value: \"[::1]80\"",
		"/tmp/sock":               "invalid ``port'' value: \"/tmp/sock\"",
		"65536":                   "\"65536\": port out of range",
		"99999999999999999999":    "port out of range",
		"80=99999999999999999999": "file descriptor out of range",
		":80":                     "no host",
		"[]:80":                   "no host",
		" :80":                    "no host",
		"a;b:80":                  "\"a;b\" is not a host name",
		"127.0.0.1=5:80":          "\"127.0.0.1=5\" is not a host name",
		"a b:80":                  "\"a b\" is not a host name",
		"/tmp/x:80":               "\"/tmp/x\" is not a host name",
		"[[localhost]:80":         "\"[localhost\" is not a host name",
		"a:b:80":                  "\"a:b\" is not an IPv6 address",
		"x[::1]:80":               "\"x[::1\" is not an IPv6 address",
		"[fe80::1%lo]:80":         "\"fe80::1%lo\" is not an IPv6 address",
	}
	for in, want := range tests {
		got, err := Parse(in)
		if err == nil || !strings.Contains(err.Error(), want) || got != (Port{}) {
			t.Errorf("Parse(%q) = %+v, %v; want the error %q", in, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"80", "u80=3", "localhost:80", " [ ::1 ] : u80 =4 ", "[::1]:80=0", ":80", "a;b:1", "::1:80", "\xff:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			return
		}
		if p.Port < 0 || p.Port > 65535 || p.FD < -1 || strings.ContainsAny(p.Key, ";=\n") {
			t.Fatalf("Parse(%q) = %+v", s, p)
		}
		again, err := Parse(p.Key)
		if want := (Port{p.Key, p.Host, p.Port, false, -1}); err != nil || again != want {
			t.Fatalf("Parse(%q) = %+v, but its key parses to %+v, %v", s, p, again, err)
		}
	})
}
