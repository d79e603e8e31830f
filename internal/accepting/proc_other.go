//go:build !linux

package accepting

// Watch reports nothing: it is not supported.
func Watch(<-chan struct{}, int, []Socket, func(Report)) {}
