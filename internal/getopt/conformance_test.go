//go:build conformance

package getopt

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// perl reads command lines as JSON, one per line, and prints a record for each. JSON text is
// decoded to bytes (latin1), which the words of a command line are, and downgraded, since lc
// follows Unicode rules otherwise.
const perl = `
use strict; use warnings; use Getopt::Long; use JSON::PP;
my $json = JSON::PP->new->latin1->canonical;
$| = 1;
while (my $line = <STDIN>) {
	my $argv = $json->decode($line);
	utf8::downgrade($_) for @$argv;
	my %o = (port => [], path => []);
	my @errors;
	local $SIG{__WARN__} = sub { (my $e = $_[0]) =~ s/\n\z//; push @errors, $e };
	local @ARGV = @$argv;
	my $ok = GetOptions(map { my $n = (split /=/, $_, 2)[0]; $_ => (ref $o{$n} ? $o{$n} : \$o{$n}) }
		qw(port=s path=s interval=i log-file=s pid-file=s dir=s signal-on-hup=s signal-on-term=s backlog=i envdir=s
		enable-auto-restart daemonize auto-restart-interval=i kill-old-delay=i status-file=s restart stop help version));
	for (keys %o) { delete $o{$_} if !defined $o{$_} || ref $o{$_} && !@{$o{$_}} }
	print $json->encode({argv => $argv, ok => $ok ? JSON::PP::true : JSON::PP::false, options => $ok ? \%o : {}, rest => [@ARGV],
		errors => \@errors}), "\n";
}
`

// pieces are joined to random words, many of which come close to a rule's edge.
var pieces = []string{"-", "--", "+", "=", "_", " ", "\n", "", "0", "1", "7", "12", "abc", "1e3", "no", "prog", "p", "po", "PORT", "port",
	"Path", "int", "interval", "log", "log-file", "d", "dir", "daemonize", "e", "env", "enable-auto-restart", "s", "sig", "signal-on-h",
	"st", "sto", "re", "h", "help", "v", "kill-old", "backlog", "auto", "status-file", "80", ":", "x", "\u00e9", "|cat"}

func randomArgv() []string {
	argv := make([]string, rand.IntN(6))
	for i := range argv {
		if rand.IntN(2) == 0 {
			argv[i] = []string{"-", "--", "+"}[rand.IntN(3)]
		}
		for range 1 + rand.IntN(3) {
			argv[i] += pieces[rand.IntN(len(pieces))]
		}
	}
	return argv
}

// TestPerl compares Parse with the Getopt::Long of this machine.
func TestPerl(t *testing.T) {
	t.Setenv("POSIXLY_CORRECT", "") // so that it is restored
	os.Unsetenv("POSIXLY_CORRECT")
	compare(t, false)
}

func TestPerlPOSIX(t *testing.T) {
	t.Setenv("POSIXLY_CORRECT", "") // set and empty counts
	compare(t, true)
}

func compare(t *testing.T, posix bool) {
	t.Helper()
	const runs = 20000
	var in bytes.Buffer
	for range runs {
		if err := json.NewEncoder(&in).Encode(randomArgv()); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("perl", "-e", perl)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(latin1(out)))
	d.UseNumber()
	valid := 0
	for range runs {
		var want record
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		got := read(want.Argv, posix)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%q (-Getopt::Long +Parse):\n%s", want.Argv, diff)
		}
		if got.OK {
			valid++
		}
	}
	t.Logf("%d of %d command lines without error", valid, runs)
}

// latin1 converts Perl's bytes to UTF-8.
func latin1(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}
