// Package getopt reads a command line with the manners of Perl's Getopt::Long 2.52 (default configuration), which
// Server::Starter 0.35 is used to, and rewrites it into words that any parser of long options takes.
package getopt

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind says what an option takes.
type Kind int

// A Flag takes nothing, a String any next word whatever it looks like, an Integer a decimal number with an optional sign.
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

// Parse reads argv (without the program name). words are the options in canonical form and in order, each one word ("--port=80",
// "--interval=5", "--daemonize"); rest is the program and its arguments; errs are in Getopt::Long's words, in order, without the
// newline. As there, an option in error is left out and reading goes on.
func Parse(options []Option, argv []string) (words, rest []string, errs []string) {
	for len(argv) > 0 {
		word := argv[0]
		argv = argv[1:]
		if word == "--" {
			return words, append(rest, argv...), errs
		}
		starter := prefix(word)
		if starter == "" {
			rest = append(rest, word)
			continue
		}
		name, value, assigned := split(word[len(starter):])
		option, complaint := lookup(options, starter, name)
		if complaint == "" && !assigned && option.Kind != Flag && len(argv) > 0 {
			value, argv = argv[0], argv[1:]
			complaint = check(option, &value)
		} else if complaint == "" {
			complaint = checkAssigned(option, &value, assigned)
		}
		if complaint != "" {
			errs = append(errs, complaint)
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

// prefix returns what makes word an option: "--", "-" or "+", or "" where it is none.
func prefix(word string) string {
	for _, p := range []string{"--", "-", "+"} {
		if strings.HasPrefix(word, p) && word != "-" {
			return p
		}
	}
	return ""
}

// split takes name=value apart. A "=" in the first place belongs to the name.
func split(s string) (name, value string, assigned bool) {
	if s == "" {
		return "", "", false
	}
	name, value, assigned = strings.Cut(s[1:], "=")
	return s[:1] + name, value, assigned
}

// lookup finds the option that name means: its full name in any case, or a prefix that no other option has. What is wrong
// otherwise is told in the words of Getopt::Long, which are no Go error strings.
func lookup(options []Option, starter, name string) (option Option, complaint string) {
	if name == "" {
		return Option{}, fmt.Sprintf("Missing option after %s", starter)
	}
	name = lower(name)
	var hits []string
	var found Option
	for _, o := range options {
		if o.Name == name {
			return o, ""
		}
		if !o.NoAbbrev && strings.HasPrefix(o.Name, name) {
			hits = append(hits, o.Name)
			found = o
		}
	}
	slices.Sort(hits)
	switch len(hits) {
	case 0:
		return Option{}, fmt.Sprintf("Unknown option: %s", name)
	case 1:
		return found, ""
	default:
		return Option{}, fmt.Sprintf("Option %s is ambiguous (%s)", name, strings.Join(hits, ", "))
	}
}

// lower is Perl's lc on bytes: nothing but A to Z is changed.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// checkAssigned checks what stood behind the "=" of the option itself, which must be something exactly where a value is wanted.
func checkAssigned(o Option, value *string, assigned bool) (complaint string) {
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

// integer tells what Getopt::Long's PAT_INT does, [-+]?_*[0-9][0-9_]*, with the newline that Perl's $ lets pass.
func integer(s string) bool {
	s = strings.TrimSuffix(s, "\n")
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	return strings.Trim(s, "_") != "" && strings.Trim(s, "_0123456789") == ""
}

// check checks a value and brings integers into canonical form. Perl makes a float of an integer out of range; here it is invalid.
func check(o Option, value *string) (complaint string) {
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
