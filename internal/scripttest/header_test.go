package scripttest

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReadHeader(t *testing.T) {
	for _, test := range []struct {
		script string
		want   Header
		valid  bool
	}{
		{"# A worker exits.\n\nstart srv\n", Header{}, true},
		{"start srv\n", Header{}, true},
		{"# A worker exits.\n# beyond\n\nstart srv\n", Header{Beyond: true}, true},
		{"# beyond\nstart srv\n", Header{Beyond: true}, true},
		{"# differs: QUIT kills it\n\nstart srv\n", Header{Differs: "QUIT kills it"}, true},
		{"# may differ: a row: with a colon\n\nstart srv\n", Header{MayDiffer: "a row: with a colon"}, true},
		{"# A worker exits.\n\n# beyond\nstart srv\n", Header{}, true}, // not in the header
		{"# beyond\n# differs: QUIT kills it\n\nstart srv\n", Header{}, false},
	} {
		file := filepath.Join(t.TempDir(), "a.txtar")
		if err := os.WriteFile(file, []byte(test.script), 0o666); err != nil {
			t.Fatal(err)
		}
		got, err := ReadHeader(file)
		if got != test.want || (err == nil) != test.valid {
			t.Errorf("%q: got %+v, %v, want %+v", test.script, got, err, test.want)
		}
	}
	if _, err := ReadHeader("no-such-script"); err == nil {
		t.Error("no error for a script that does not exist")
	}
}
