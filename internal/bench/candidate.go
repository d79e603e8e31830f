//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// candidate is a program that is measured, and a column of the table.
type candidate struct {
	name string
	path string // "" for the worker without a superdaemon
	kind kind
}

// kind is what a candidate can do.
type kind int

const (
	full       kind = iota // this start_server: everything
	classic                // what Server::Starter does
	statusless             // the same, but its status file is never written
	bare                   // starts workers, and has no options
	none                   // no superdaemon
)

// peers are programs of the same kind that a Go module holds. They are fetched and built each time:
// this module does not depend on them.
var peers = []struct {
	name, pkg string
	kind      kind
}{
	{"lestrrat (Go)", "github.com/lestrrat-go/server-starter/cmd/start_server@latest", classic},
	{"lestrrat (Go, 2018)", "github.com/lestrrat/go-server-starter/cmd/start_server@v0.0.0-20180220115249-6ac0b358431b", statusless},
	{"shogo82148 (Go)", "github.com/shogo82148/server-starter/cmd/start_server@latest", classic},
}

// subject is the name of the candidate that the others are compared with.
const subject = "start_server"

// builder makes the programs of a run in a directory of their own.
type builder struct {
	dir   string
	notes []string // what could not be built, and why
}

// build builds a program of this module, static and stripped as it would be released.
func (b *builder) build(name, pkg string) (string, error) {
	path := filepath.Join(b.dir, name)
	return path, run(goCommand("build", "-trimpath", "-ldflags=-s -w", "-o", path, pkg))
}

// workers builds the programs that the candidates start.
func (b *builder) workers() (w workers, err error) {
	if w.stamp, err = b.build("stamp", "./internal/bench/stamp"); err == nil {
		w.web, err = b.build("web", "./internal/bench/web")
	}
	return w, err
}

// candidates are the columns of the table.
func (b *builder) candidates(path, reference string, given []string) ([]candidate, error) {
	list := []candidate{{subject, path, full}}
	if _, err := os.Stat(reference); err == nil {
		list = append(list, candidate{"Perl", reference, classic})
	} else {
		b.notes = append(b.notes, fmt.Sprintf("Perl's is not there (package libserver-starter-perl): %v", err))
	}
	peers, err := b.peers(given)
	if err != nil {
		return nil, err
	}
	floors, err := b.floors()
	return slices.Concat(list, peers, floors, []candidate{{"no superdaemon", "", none}}), err
}

// peers builds those that can be built here. given are further ones, as NAME=FILE.
func (b *builder) peers(given []string) (list []candidate, err error) {
	for i, peer := range peers {
		bin := filepath.Join(b.dir, fmt.Sprint("peer", i))
		install := goCommand("install", "-trimpath", "-ldflags=-s -w", peer.pkg)
		install.Env = append(install.Env, "GOBIN="+bin)
		install.Dir = b.dir // outside of this module
		if err := run(install); err != nil {
			b.notes = append(b.notes, fmt.Sprintf("%s cannot be built here: %v", peer.name, err))
			continue
		}
		list = append(list, candidate{peer.name, filepath.Join(bin, "start_server"), peer.kind})
	}
	for _, word := range given {
		name, file, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("peer %q: not NAME=FILE", word)
		}
		if file, err = filepath.Abs(file); err != nil { // it is started in other directories
			return nil, err
		}
		list = append(list, candidate{name, file, classic})
	}
	if len(given) == 0 {
		b.notes = append(b.notes, "shogo82148's Rust port is not built here, as that takes crates: give its binary as shogo82148-rust=FILE")
	}
	return list, nil
}

// floors builds the programs that show what cannot be undercut.
func (b *builder) floors() (list []candidate, err error) {
	path, err := b.build("floor", "./internal/bench/floor")
	if err != nil {
		return nil, err
	}
	list = append(list, candidate{"bare Go program", path, bare})
	path = filepath.Join(b.dir, "cfloor")
	if err := run(exec.Command("cc", "-O2", "-static", "-o", path, "internal/bench/floor/c/floor.c")); err != nil {
		b.notes = append(b.notes, fmt.Sprintf("the bare C program cannot be built here: %v", err))
		return list, nil
	}
	return append(list, candidate{"bare C program", path, bare}), nil
}

func goCommand(args ...string) *exec.Cmd {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd
}

// run runs a command; the error has the last line of what it printed.
func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args[:2], " "), err, bytes.TrimSpace(lines[len(lines)-1]))
	}
	return nil
}
