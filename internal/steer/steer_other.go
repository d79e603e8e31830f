//go:build !linux

package steer

import (
	"errors"
	"net/netip"
)

// Supported reports whether the system can steer packets.
const Supported = false

type instruction struct{}

func filter(map[int]int, int) []instruction { return nil }

func attach(int, []instruction) error { return errors.ErrUnsupported }

// Open is not supported.
func Open(netip.AddrPort) (*Group, error) { return nil, errors.ErrUnsupported }

// Adopt is not supported.
func Adopt([]int, map[int]int) (*Group, error) { return nil, errors.ErrUnsupported }

func (g *Group) grow() error { return errors.ErrUnsupported }

func empty(int) {}
