package process

import "testing"

func TestIsLocalFile(t *testing.T) {
	t.Parallel()
	c := FileCheck{}
	_, _ = interpreter("/proc/self/status"), isRegular("/no/such") // now they are in the cache
	if ok, exists := c.isLocalFile("/proc/self/status"); ok && exists {
		t.Error("/proc counts as local")
	}
	if ok, exists := c.isLocalFile("/no/such"); !ok || exists {
		t.Errorf("/no/such: %v, %v; want true, false", ok, exists)
	}
	if isLocalMount(1 << 40) {
		t.Error("a mount that does not exist is local")
	}
}
