package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestManual checks that --help and the man page have every option and no other.
func TestManual(t *testing.T) {
	want := optionNames()
	var help bytes.Buffer
	if status := run([]string{"--help"}, &help, os.Stderr); status != 0 {
		t.Fatalf("exit status of --help: %d", status)
	}
	for _, place := range []struct {
		name, text string
		option     *regexp.Regexp
	}{
		{"--help", help.String(), regexp.MustCompile(`(?m)^ *--([a-z-]+)`)},
		{"the man page", read(t, "start_server.1"), regexp.MustCompile(`(?m)^\.It Fl Fl ([a-z-]+)`)},
	} {
		if diff := cmp.Diff(want, matches(place.option, place.text)); diff != "" {
			t.Errorf("options in %s (-want +got):\n%s", place.name, diff)
		}
	}
}

func optionNames() (names []string) {
	for _, o := range getoptOptions() {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	return names
}

// matches returns what the first group of re matches in text, sorted, each once.
func matches(re *regexp.Regexp, text string) (found []string) {
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// TestManualIsClean checks that the formatters that are installed print no warning.
func TestManualIsClean(t *testing.T) {
	commands := [][]string{
		{"man", "--warnings", "-l", "-Tutf8", "-Z", "start_server.1"},
		{"mandoc", "-T", "lint", "-W", "warning", "start_server.1"},
	}
	for _, args := range commands {
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Logf("%v", err)
			continue
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=100")
		var messages bytes.Buffer
		cmd.Stderr = &messages
		if args[0] == "mandoc" {
			cmd.Stdout = &messages
		}
		if err := cmd.Run(); err != nil || messages.Len() > 0 {
			t.Errorf("%s: %v\n%s", cmd, err, &messages)
		}
	}
}

// TestManualDiagnostics checks that the man page has every log line: the texts of the functions in
// internal/lines/lines.go.
func TestManualDiagnostics(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../internal/lines/lines.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, declaration := range file.Decls {
		if f, ok := declaration.(*ast.FuncDecl); ok {
			lines = append(lines, texts(t, f.Body)...)
		}
	}
	if len(lines) < 20 {
		t.Errorf("found %d log lines", len(lines))
	}
	verb := regexp.MustCompile(`%d failed attempts|%d,%d|%[a-z]`)
	_, diagnostics, _ := strings.Cut(read(t, "start_server.1"), "\n.Sh DIAGNOSTICS\n")
	diagnostics = verb.ReplaceAllString(diagnostics, "%")
	for _, line := range lines {
		if !strings.Contains(diagnostics, "\n.It "+verb.ReplaceAllString(line, "%")) {
			t.Errorf("%q is not in DIAGNOSTICS of the man page", line)
		}
	}
}

// texts returns the strings of more than one word in a function, except those that it passes to
// functions of its own package.
func texts(t *testing.T, body ast.Node) (found []string) {
	ast.Inspect(body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			_, own := call.Fun.(*ast.Ident)
			return !own
		}
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(text, " ") {
				found = append(found, text)
			}
		}
		return true
	})
	return found
}
