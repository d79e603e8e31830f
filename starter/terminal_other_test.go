//go:build !linux

package starter

import "testing"

func newTerminal(t *testing.T) (read, write int) {
	t.Helper()
	t.Skip("terminals are made in another way here")
	return -1, -1
}
