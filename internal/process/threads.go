package process

import "runtime"

// spareThreads is how many threads may be in long system calls while another one executes Go code:
// the loop's own, the log's, the status file's, and some more.
const spareThreads = 5

// ReserveThreads creates every thread that this process will need. The Go runtime creates a thread
// when all others are busy, and aborts the process if it cannot (a full pids cgroup, RLIMIT_NPROC).
// It keeps idle threads, and uses them before it creates another.
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
	release <- struct{}{}
	runtime.Gosched() // one is idle from now on, the others as soon as they run
	close(release)
}
