package queue

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestQueue checks that a slow function does not delay the queue, and gets every value in
// order.
func TestQueue(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var got []int
	q := New(func(e int) {
		<-release
		got = append(got, e)
	})
	var want []int
	for i := range 1000 {
		want = append(want, i)
		q.Add(want[i]) // the function has not returned yet
	}
	close(release)
	q.Close()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-added +received):\n%s", diff)
	}
}
