package main

// Windows has no signals and no descriptors that a child inherits. The original does not run there
// either.
var _ = start_server_does_not_run_on_windows
