package process

import "runtime"

// ReserveThreads creates every thread that this process will need, if at most this many goroutines
// are in long system calls at once. The Go runtime creates a thread when all others are busy, and
// aborts the process if it cannot (a full pids cgroup, RLIMIT_NPROC). It keeps idle threads, and
// uses them before it creates another. Four that run Go code are enough for a superdaemon, however
// many processors there are.
func ReserveThreads(inSystemCalls int) {
	count := min(runtime.GOMAXPROCS(0), 4) + inSystemCalls
	arrived, release := make(chan struct{}), make(chan struct{})
	for range count {
		go func() {
			runtime.LockOSThread() // so that each of them has a thread of its own
			defer runtime.UnlockOSThread()
			arrived <- struct{}{}
			<-release
		}()
	}
	for range count {
		<-arrived
	}
	release <- struct{}{}
	runtime.Gosched() // one is idle from now on, the others as soon as they run
	close(release)
}
