package process

import "runtime"

// spareThreads is how many threads may be in system calls that take long, while another one
// executes Go code: the loop's own, the log's, the status file's and some to spare.
const spareThreads = 5

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
	release <- struct{}{}
	runtime.Gosched() // now one of them is at hand, and the others are freed when there is time
	close(release)
}
