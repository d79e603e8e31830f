package main

// Windows has no signals to be told by and no descriptors to hand down. The original
// does not run there either.
var _ = start_server_does_not_run_on_windows
