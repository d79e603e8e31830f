module github.com/start-server/start-server

go 1.25.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/jessevdk/go-flags v1.6.1
	github.com/rogpeppe/go-internal v1.14.1
	golang.org/x/sys v0.40.0
)

require golang.org/x/tools v0.26.0 // indirect
