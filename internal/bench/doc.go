// Command bench measures start_server beside Perl's, beside other programs of the same kind, and
// beside the smallest programs that do the same, in turn in one run, and prints medians as a
// Markdown table.
//
//	go run ./internal/bench [-run LIST] [-rounds N] [-svg DIR] [NAME=FILE...]
//
// Time is measured from outside: a tiny worker (directory stamp) reports what the monotonic clock
// shows when its main begins and when it gets TERM. The start of the worker's own run time is thus
// part of every figure, for every program alike; the column "no superdaemon" shows how much it is.
// The bare programs (directory floor) bind, fork, and fork again at HUP, and do nothing else: what
// the Go runtime, and the kernel, take by themselves. Linux only.
package main
