// Package conformance holds the proof that this start_server does what the Perl original does: the same stories, the
// same traces, the same servers under both. It is made of tests behind the build tag conformance; `make conformance`
// runs them. They need the Debian packages that preflight_test.go names.
package conformance
