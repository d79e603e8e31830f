// Command soak injects random faults into a start_server with a graceful Go worker under load, and
// counts.
//
//	go run ./internal/soak [-duration 10m] [-seed N] [-first STEP] [-only FAULT,FAULT] [-variant NAME] [-binary FILE]
//
// Step by step it starts 16 clients, injects one fault, waits until it has recovered, and stops the
// clients: so every lost request is due to that fault. A fault that leaves a worker alive must not
// cost a single one. One that kills a serving worker costs what that worker was answering, at most
// a request for each client and kill; one that shuts the sockets down, what was sent until they
// listen again.
//
// Each round of all faults has another superdaemon: with --ready-timeout, --accept-timeout,
// --workers=2 or --steer-udp in turn. Under the last, clients like those of QUIC are among the 24.
//
// The superdaemon has recovered when one worker is left, the status file names it, it answers on
// every socket, no process below it is a zombie or too many, and as many descriptors are open as at
// the beginning. (Steered sockets are counted apart: their number grows to that of the generations
// that have lived at the same time.) The seed determines faults and parameters, so a run, or the
// rest of it from some step on, can be repeated. Linux only. If root runs it, the superdaemon runs
// as another user, which is needed to make fork fail, and its program can be on a file system that
// hangs.
package main
