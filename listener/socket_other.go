//go:build !unix

package listener

import (
	"errors"
	"os"
)

// There is no start_server here, so Listen and ListenPacket fall back on package net and the rest
// never gets this far.

var connectionRefused = errors.ErrUnsupported

func inspect(uintptr) (socket, error) { return socket{}, errors.ErrUnsupported }

func closeOnExec(uintptr) {}

func duplicate(uintptr) (*os.File, error) { return nil, errors.ErrUnsupported }
