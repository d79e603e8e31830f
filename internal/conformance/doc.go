// Package conformance compares this start_server with the Perl original: the same scripts, the same traces, the same
// servers under both. It consists of tests with the build tag conformance; `make conformance` runs them. They need root
// and the Debian packages that main_test.go lists.
package conformance
