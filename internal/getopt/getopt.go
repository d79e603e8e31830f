// Package getopt reads a command line as Perl's Getopt::Long 2.52 does in its default
// configuration, or that of $POSIXLY_CORRECT, which Server::Starter 0.35 uses, and rewrites it into words that any parser of
// long options accepts.
package getopt

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind is the kind of value that an option takes.
type Kind int

// A Flag takes no value, a String takes the next word whatever it is, an Integer takes a decimal
// number with an optional sign.
const (
	Flag Kind = iota
	String
	Integer
)

// Option is one option of the command line. Its name is in lower case.
type Option struct {
	Name     string
	Kind     Kind
	NoAbbrev bool // takes no part in abbreviation: only the full name (any case) means it
}

// Parse reads argv, which does not include the program name. words are the options in order and in
// canonical form, one word each ("--port=80", "--interval=5", "--daemonize"); rest is the program
// to start and its arguments; errs are the error messages of Getopt::Long, in order, without the
// newline. Like Getopt::Long, Parse leaves out an option in error and continues.
//
// posix is whether $POSIXLY_CORRECT is set: then the program begins at the first word that is not an
// option, "+" does not mark an option, an option takes no value after "=" unless it has two dashes,
// and no option can be abbreviated.
func Parse(options []Option, argv []string, posix bool) (words, rest []string, errs []string) {
	for len(argv) > 0 {
		word := argv[0]
		argv = argv[1:]
		if word == "--" {
			return words, append(rest, argv...), errs
		}
		starter := prefix(word, posix)
		if starter == "" && posix {
			return words, append([]string{word}, argv...), errs
		}
		if starter == "" {
			rest = append(rest, word)
			continue
		}
		name, value, assigned := word[len(starter):], "", false
		if !posix || starter == "--" {
			name, value, assigned = split(name)
		}
		option, message := lookup(options, starter, name, posix)
		if message == "" && !assigned && option.Kind != Flag && len(argv) > 0 {
			value, argv = argv[0], argv[1:]
			message = check(option, &value)
		} else if message == "" {
			message = checkAssigned(option, &value, assigned)
		}
		if message != "" {
			errs = append(errs, message)
			continue
		}
		word = "--" + option.Name
		if option.Kind != Flag {
			word += "=" + value
		}
		words = append(words, word)
	}
	return words, rest, errs
}

// prefix returns what marks word as an option, "--", "-" or "+", or "" if it is not an option.
func prefix(word string, posix bool) string {
	for _, p := range []string{"--", "-", "+"} {
		if strings.HasPrefix(word, p) && word != "-" && !(p == "+" && posix) {
			return p
		}
	}
	return ""
}

// split splits name=value. A "=" at the beginning belongs to the name.
func split(s string) (name, value string, assigned bool) {
	if s == "" {
		return "", "", false
	}
	name, value, assigned = strings.Cut(s[1:], "=")
	return s[:1] + name, value, assigned
}

// lookup finds the option that name stands for: its full name in any case, or a prefix of no other
// option if posix is false. Otherwise it returns the message of Getopt::Long, which does not have the
// form of a Go error.
func lookup(options []Option, starter, name string, posix bool) (option Option, message string) {
	if name == "" {
		return Option{}, fmt.Sprintf("Missing option after %s", starter)
	}
	given := name
	name = lower(name)
	var hits []string
	var found Option
	for _, o := range options {
		if o.Name == name {
			return o, ""
		}
		if !posix && !o.NoAbbrev && strings.HasPrefix(o.Name, name) {
			hits = append(hits, o.Name)
			found = o
		}
	}
	slices.Sort(hits)
	switch len(hits) {
	case 0:
		if posix {
			name = given
		}
		return Option{}, fmt.Sprintf("Unknown option: %s", name)
	case 1:
		return found, ""
	default:
		return Option{}, fmt.Sprintf("Option %s is ambiguous (%s)", name, strings.Join(hits, ", "))
	}
}

// lower is Perl's lc on bytes: it changes A to Z only.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// checkAssigned checks the value after the "=" of the option itself: a flag takes none, the other
// options need one that is not empty.
func checkAssigned(o Option, value *string, assigned bool) (message string) {
	switch {
	case o.Kind == Flag && assigned:
		return fmt.Sprintf("Option %s does not take an argument", o.Name)
	case o.Kind == Flag:
		return ""
	case *value == "":
		return fmt.Sprintf("Option %s requires an argument", o.Name)
	}
	return check(o, value)
}

// integer reports whether s matches Getopt::Long's PAT_INT, [-+]?_*[0-9][0-9_]*, optionally
// followed by a newline, which Perl's $ accepts.
func integer(s string) bool {
	s = strings.TrimSuffix(s, "\n")
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	return strings.Trim(s, "_") != "" && strings.Trim(s, "_0123456789") == ""
}

// check checks a value and brings an integer into canonical form. An integer out of range is
// invalid; Perl makes a float of it.
func check(o Option, value *string) (message string) {
	if o.Kind == String {
		return ""
	}
	if integer(*value) {
		digits := strings.NewReplacer("_", "", "\n", "").Replace(*value)
		if n, err := strconv.Atoi(digits); err == nil {
			*value = strconv.Itoa(n)
			return ""
		}
	}
	return fmt.Sprintf("Value \"%s\" invalid for option %s (number expected)", *value, o.Name)
}
