package status

import (
	"strings"
	"testing"
)

// TestRetry checks that a file that cannot be written is reported once and tried again, by the
// monotonic clock: a time without its reading prints without " m=".
func TestRetry(t *testing.T) {
	t.Parallel()
	reported := 0
	f := NewFile("/no/such/file", func() {}, func(string) { reported++ })
	defer f.Close()
	for _, text := range []string{"1:1\n", "1:2\n"} {
		f.Write([]byte(text))
		f.writer.Wait(retryStatus)
		if wait := f.RunPending(); wait <= 0 || wait > retryStatus {
			t.Errorf("RunPending = %s", wait)
		}
	}
	if reported != 1 || !strings.Contains(f.retryAt.String(), " m=") {
		t.Errorf("%d errors were reported, tried again at %s", reported, f.retryAt)
	}
}
