package getopt

import (
	_ "embed"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// perlOptions are the options of start_server 0.35.
var perlOptions = []Option{
	{Name: "port", Kind: String}, {Name: "path", Kind: String}, {Name: "interval", Kind: Integer}, {Name: "log-file", Kind: String},
	{Name: "pid-file", Kind: String}, {Name: "dir", Kind: String}, {Name: "signal-on-hup", Kind: String},
	{Name: "signal-on-term", Kind: String}, {Name: "backlog", Kind: Integer}, {Name: "envdir", Kind: String},
	{Name: "enable-auto-restart"}, {Name: "daemonize"}, {Name: "auto-restart-interval", Kind: Integer},
	{Name: "kill-old-delay", Kind: Integer}, {Name: "status-file", Kind: String}, {Name: "restart"}, {Name: "stop"}, {Name: "help"},
	{Name: "version"},
}

// allOptions includes options that the original lacks. They must not change how the others are
// read.
var allOptions = append([]Option{
	{Name: "ready-timeout", Kind: Integer, NoAbbrev: true}, {Name: "kill-timeout", Kind: Integer, NoAbbrev: true},
	{Name: "socket-activation", NoAbbrev: true},
}, perlOptions...)

//go:embed testdata/getopt.json
var recorded []byte

// record is the result of Getopt::Long for one command line.
type record struct {
	Argv    []string       `json:"argv"`
	OK      bool           `json:"ok"`
	Options map[string]any `json:"options"` // only of a command line without errors
	Rest    []string       `json:"rest"`
	Errors  []string       `json:"errors"`
}

// read returns the result of Parse for argv.
func read(argv []string, posix bool) record {
	words, rest, errs := Parse(allOptions, argv, posix)
	r := record{Argv: argv, OK: len(errs) == 0, Options: map[string]any{}, Rest: rest, Errors: errs}
	if !r.OK {
		return r
	}
	for _, w := range words {
		name, value, _ := strings.Cut(strings.TrimPrefix(w, "--"), "=")
		o, _ := lookup(allOptions, "--", name, false)
		switch {
		case name == "port" || name == "path":
			list, _ := r.Options[name].([]any)
			r.Options[name] = append(list, value)
		case o.Kind == Flag:
			r.Options[name] = json.Number("1")
		case o.Kind == Integer:
			r.Options[name] = json.Number(value)
		default:
			r.Options[name] = value
		}
	}
	return r
}

func TestRecorded(t *testing.T) {
	var records []record
	d := json.NewDecoder(strings.NewReader(string(recorded)))
	d.UseNumber()
	if err := d.Decode(&records); err != nil {
		t.Fatal(err)
	}
	if len(records) != 76 {
		t.Fatalf("%d records, want 76", len(records))
	}
	for _, want := range records {
		if diff := cmp.Diff(want, read(want.Argv, false), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q (-Getopt::Long +Parse):\n%s", want.Argv, diff)
		}
	}
}

func TestParse(t *testing.T) {
	tests := []parseTest{
		{"--INTERVAL=+007|prog", "--interval=7", "prog", ""},
		{"--interval|-0_1_|prog", "--interval=-1", "prog", ""},
		{"--interval|5\n|prog", "--interval=5", "prog", ""},
		{"--interval||prog", "", "prog", `Value "" invalid for option interval (number expected)`},
		{"--port||prog", "--port=", "prog", ""},
		{"--interval=99999999999999999999|prog", "", "prog",
			`Value "99999999999999999999" invalid for option interval (number expected)`},
		{"--help=", "", "", "Option help does not take an argument"},
		{"+|prog", "", "prog", "Missing option after +"},
		{"--=80=3|prog", "", "prog", "Unknown option: =80"},
		{"--X|--Y|--port=1|prog", "--port=1", "prog", "Unknown option: x|Unknown option: y"},
		{"--r|prog", "--restart", "prog", ""},
		{"--kill=3|prog", "--kill-old-delay=3", "prog", ""},
		{"--Kill-Timeout=3|prog", "--kill-timeout=3", "prog", ""},
		{"--kill-t=3|prog", "", "prog", "Unknown option: kill-t"},
		{"--so|prog", "", "prog", "Unknown option: so"},
		{"--socket-activation|prog", "--socket-activation", "prog", ""},
	}
	for _, test := range tests {
		checkParse(t, test, false)
	}
}

// parseTest is a command line and the results of Parse for it, words separated by "|".
type parseTest struct{ argv, words, rest, errs string }

func checkParse(t *testing.T, test parseTest, posix bool) {
	t.Helper()
	words, rest, errs := Parse(allOptions, strings.Split(test.argv, "|"), posix)
	got := []string{strings.Join(words, "|"), strings.Join(rest, "|"), strings.Join(errs, "|")}
	if diff := cmp.Diff([]string{test.words, test.rest, test.errs}, got); diff != "" {
		t.Errorf("%q (-want +got):\n%s", test.argv, diff)
	}
}

func TestParsePOSIX(t *testing.T) {
	for _, test := range []parseTest{
		{"--interval|1|sh|-c|exec sleep 9", "--interval=1", "sh|-c|exec sleep 9", ""},
		{"--Port=80|-port|81|prog|--|--stop", "--port=80|--port=81", "prog|--|--stop", ""},
		{"--stop|--|prog|--", "--stop", "prog|--", ""},
		{"--stop|-|--help", "--stop", "-|--help", ""},
		{"+stop|--help", "", "+stop|--help", ""},
		{"-port=80|--Inter=1|prog", "", "prog", "Unknown option: port=80|Unknown option: Inter"},
		{"--kill-timeout=3|prog", "--kill-timeout=3", "prog", ""},
	} {
		checkParse(t, test, true)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"--port=80 -- prog", "-p 80", "+interval -1 x", "--=a", "- + -- --", "--KILL=1_0 --help=", "---x"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, posix bool) {
		argv := strings.Split(s, " ")
		words, rest, errs := Parse(allOptions, argv, posix)
		if len(words)+len(rest)+len(errs) > len(argv) {
			t.Fatalf("%q: more words in the result than in the command line: %q %q %q", argv, words, rest, errs)
		}
		for _, w := range words {
			name, value, assigned := strings.Cut(strings.TrimPrefix(w, "--"), "=")
			o, message := lookup(allOptions, "--", name, false)
			if message != "" || o.Name != name || assigned == (o.Kind == Flag) || !strings.HasPrefix(w, "--") {
				t.Fatalf("%q: %q is not canonical: %s", argv, w, message)
			}
			if o.Kind == Integer && !integer(value) {
				t.Fatalf("%q: %q is not an integer", argv, w)
			}
		}
		again, _, errs := Parse(allOptions, words, posix)
		if len(errs) > 0 && !strings.Contains(errs[0], "requires an argument") {
			t.Fatalf("%q: %q is read as %q, %q", argv, words, again, errs)
		}
	})
}
