// Package conformance compares this start_server with the Perl original: it runs the same scripts
// and the same servers under both, and compares their traces. It consists of tests with the build
// tag conformance; `make conformance` runs them. They need root and the Debian packages in
// main_test.go.
package conformance
