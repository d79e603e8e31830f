// Package systemd proves start_server under a real systemd: Debian trixie's, booted in a namespace of its own. The proof
// is a test behind the build tag systemd:
//
//	go test -tags systemd -count=1 ./internal/conformance/systemd
//
// It needs root, systemd-nspawn and, the first time, debootstrap with a Debian mirror in reach (half a minute, 250 MB
// in ${XDG_CACHE_HOME:-/var/tmp}/start_server-conformance, or where CONFORMANCE_CACHE says). What is missing it tells.
// START_SERVER names a binary to be tested in place of the one that is built from this tree.
//
// The unit files in testdata are those of README.md and cmd/start_server/README.md.
package systemd
