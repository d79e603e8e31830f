package process

import "runtime"

// spareThreads is how many threads the superdaemon may need at once, besides those that execute Go
// code: one that waits for signals, one that has signals delivered, one that creates threads, and
// system calls that take long.
const spareThreads = 8

// ReserveThreads creates every thread that this process will need. The Go runtime creates one when
// all others are busy, and aborts the process if it cannot (a full pids cgroup, RLIMIT_NPROC). A
// thread that has nothing to do is kept, and used before another is created.
func ReserveThreads() {
	count := runtime.GOMAXPROCS(0) + spareThreads
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
	close(release)
}
