//go:build !linux

package status

import "errors"

// Published is a Report that others read without a file, which only Linux allows.
type Published struct{}

// Write does nothing.
func (*Published) Write([]byte) {}

// Close does nothing.
func (*Published) Close() {}

// ReadPublished returns an error.
func ReadPublished(int) (Report, error) { return Report{}, errors.ErrUnsupported }
