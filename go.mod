module github.com/start-server/start-server

go 1.25.0

require (
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/jessevdk/go-flags v1.6.1 // indirect
	github.com/rogpeppe/go-internal v1.14.1 // indirect
	golang.org/x/sys v0.40.0 // indirect
)
