# start_server. `make run` shows what it does, `make test` passes the tests.

PORT ?= 8080
PREFIX ?= /usr/local
FUZZTIME ?= 30s
SOAK ?= 10m
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
RACE = $(if $(shell command -v cc),-race)
CHECKS = conformance,systemd

.PHONY: build run test lint fuzz cover bench loss soak conformance conformance-systemd cross install dist clean

build:
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/start_server ./cmd/start_server

run: build
	go build -o bin/hello ./testdata/hello
	@echo "another terminal: curl localhost:$(PORT); kill -HUP \$$(cat bin/pid); curl localhost:$(PORT)"
	bin/start_server --port=$(PORT) --pid-file=bin/pid -- bin/hello

test:
	go test $(RACE) ./...

lint:
	test -z "$$(gofmt -l cmd starter listener internal testdata | tee /dev/stderr)"
	go vet ./... ./testdata/... && go vet -tags $(CHECKS) ./...
	go run $(STATICCHECK) -tags $(CHECKS) ./...

fuzz:
	set -e; for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	  go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done
	go test ./starter -run 'TestSimulation$$' -schedules 2000000

bench: build
	go run ./internal/bench bin/start_server

loss:
	go run ./internal/loss
	go run -race ./internal/loss -answers 50

soak: build
	go run ./internal/soak -duration $(SOAK) bin/start_server

conformance: build
	go test -tags conformance -count=1 -timeout 10m ./internal/conformance/ ./internal/getopt ./internal/pidfile

conformance-systemd: build
	go test -tags systemd -count=1 -timeout 10m ./internal/conformance/systemd

cross:
	for os in darwin freebsd; do for arch in amd64 arm64; do GOOS=$$os GOARCH=$$arch go vet ./... || exit; done; done
	GOOS=linux GOARCH=arm64 go vet ./...
	! GOOS=windows go build ./cmd/start_server 2>/tmp/start_server.windows
	grep -q start_server_does_not_run_on_windows /tmp/start_server.windows

install: build
	install -D bin/start_server $(DESTDIR)$(PREFIX)/bin/start_server
	install -D -m 644 cmd/start_server/start_server.1 $(DESTDIR)$(PREFIX)/share/man/man1/start_server.1

clean:
	rm -rf bin dist coverage
