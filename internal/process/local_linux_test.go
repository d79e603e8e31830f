package process

import "testing"

func TestIsSurelyLocal(t *testing.T) {
	t.Parallel()
	script := file(t, 0o755, "#!/bin/sh\n")
	for _, path := range []string{"/proc/self/status", script} {
		_ = isRegular(path) // now it is in the cache
		if (Spec{Args: []string{path}}).isSurelyLocal() {
			t.Errorf("%s counts as a local program", path)
		}
	}
	if (Spec{Args: []string{"/bin/true"}, Dir: "/proc"}).isSurelyLocal() {
		t.Error("the directory /proc counts as local")
	}
	_ = isRegular("/no/such")
	if local, exists := isLocalFile("/no/such"); !local || exists {
		t.Errorf("/no/such: %v, %v; want true, false", local, exists)
	}
}
