// Command bench measures start_server beside Perl's and any other binaries, in turn in one run, and prints medians and
// ratios as a Markdown table.
//
//	go run ./internal/bench [-run LIST] [-rounds N] [-svg FILE] [binary...]
//
// What is timed is timed from outside: a tiny worker (folder stamp) says what the monotonic clock shows when its main
// begins and when it is told to stop. The start of the worker's own run time is thus part of every figure, for every
// binary alike; the row "nobody in between" shows how much it is. Linux only.
package main
