// Package systemd tests start_server under a real systemd, that of Debian trixie, booted in a
// container. The tests have the build tag systemd:
//
//	go test -tags systemd -count=1 ./internal/conformance/systemd
//
// They need root, systemd-nspawn and, the first time, debootstrap and a Debian mirror (half a
// minute, 250 MB in ${XDG_CACHE_HOME:-/var/tmp}/start_server-conformance, or in
// $CONFORMANCE_CACHE), and report what is missing. START_SERVER names a binary to test instead of
// the one that is built from this tree.
//
// The unit files in testdata include those of README.md and cmd/start_server/README.md.
package systemd
