# start_server. `make run` shows what it does, `make test` runs the tests.

PORT ?= 8080
PREFIX ?= /usr/local
FUZZTIME ?= 30s
SOAK ?= 10m
SWAPS ?= 20
HUPS ?= 10
BINARY = bin/start_server
TREE = $(DESTDIR)$(PREFIX)
BASHDIR = share/bash-completion/completions
ZSHDIR = share/zsh/site-functions
FISHDIR = share/fish/vendor_completions.d
DOCDIR = share/doc/start_server
EXAMPLES = $(addprefix internal/conformance/systemd/testdata/,app.service app.socket notify.service stored.service survivor.service) .github/Dockerfile
INSTALLED = bin/start_server share/man/man1/start_server.1 \
  $(addprefix $(DOCDIR)/,README.md guide.md CHANGELOG.md LICENSE $(addprefix examples/,$(notdir $(EXAMPLES)))) \
  $(BASHDIR)/start_server $(ZSHDIR)/_start_server $(FISHDIR)/start_server.fish
GOBUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags='-s -w'
VERSION = $(shell sed -n 's/^const version = "\(.*\)"/\1/p' cmd/start_server/options.go)
# The time of the commit: git archive writes it to .nfpm/commit-time.
SOURCE_DATE_EPOCH ?= $(shell grep -x '[0-9]*' .nfpm/commit-time || git log -1 --format=%ct 2>/dev/null || echo 0)
TAR = tar --owner=0 --group=0 --numeric-owner --mtime=@$(SOURCE_DATE_EPOCH)
PLATFORMS = $(addprefix linux/,amd64 arm64 arm 386 riscv64 ppc64le s390x) darwin/amd64 darwin/arm64 freebsd/amd64 freebsd/arm64
PACKAGEARCH = $(patsubst arm,arm6,$(ARCH))
NFPM = github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
RACE = $(if $(shell command -v cc),-race)
CHECKS = conformance,systemd
# The Go versions under which package listener is tested: the oldest is that of go.mod.
GOVERSIONS = go$(shell sed -n 's/^go //p' go.mod) go1.27.1

# Coverage is counted of these: all but the commands, the measuring tools and the test tools.
COVERED = $(shell go list ./starter ./listener/... ./internal/... | grep -Ev '/(bench|conformance|load|measure|swaploss|scripttest|soak)(/|$$)' | paste -sd,)

.PHONY: build run test test-go lint fuzz cover bench loss loss-go soak conformance conformance-systemd cross install uninstall dist tarball packages clean

build:
	$(GOBUILD) -o $(BINARY) ./cmd/start_server

run: build
	go build -o bin/hello ./testdata/hello
	@echo "another terminal: curl localhost:$(PORT); kill -HUP \$$(cat bin/pid); curl localhost:$(PORT)"
	bin/start_server --port=$(PORT) --pid-file=bin/pid -- bin/hello

test:
	go test $(RACE) ./...
	cd testdata/examples && go test ./...

test-go:
	set -e; for v in $(GOVERSIONS); do GOTOOLCHAIN=$$v go test -count=1 -timeout 2m ./listener/...; done

loss-go:
	set -e; for v in $(GOVERSIONS); do GOTOOLCHAIN=$$v $(MAKE) loss; done

lint:
	files=$$(gofmt -l cmd starter listener internal testdata); if [ -n "$$files" ]; then echo "gofmt would change: $$files"; exit 1; fi
	go vet ./... ./testdata/hello ./testdata/worker && go vet -tags $(CHECKS) ./...
	cd testdata/examples && go vet ./...
	go run $(STATICCHECK) -tags $(CHECKS) ./...
	go run $(GOLANGCI) run

fuzz:
	set -e; for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	  go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done
	go test ./internal/supervisor -run 'TestSimulation$$' -schedules 2000000

# What the scripts execute counts as well. A process that is killed, or executes another program, writes no counters.
cover:
	rm -rf coverage && mkdir -p coverage/tests coverage/scripts && chmod 1777 coverage/scripts
	COVERDIR=$(CURDIR)/coverage/scripts go test -count=1 -covermode=atomic -coverpkg=$(COVERED) ./... \
	  -args -test.gocoverdir=$(CURDIR)/coverage/tests >coverage/tests.log || { cat coverage/tests.log; exit 1; }
	go tool covdata textfmt -pkg=$(COVERED) -i=coverage/tests,coverage/scripts -o coverage/profile
	@go tool covdata percent -pkg=$(COVERED) -i=coverage/tests,coverage/scripts
	go tool cover -func coverage/profile | awk '/^total/ { print; exit $$3 + 0 < 85 }'

bench: build
	go run ./internal/bench -start-server $(BINARY) $(PEERS)

loss:
	go run ./internal/swaploss -swaps $(SWAPS)
	go run $(RACE) ./internal/swaploss -answers 50 -swaps $(SWAPS)
	cd testdata/examples && go test -count=1 -timeout 20m -swaps $(SWAPS)

soak: build
	go run ./internal/soak -duration $(SOAK) -binary bin/start_server

conformance: build
	@rm -f bin/tables
	go test -tags conformance -count=1 -timeout 10m ./internal/getopt ./internal/pidfile
	go test -tags conformance -count=1 -timeout 20m ./internal/conformance/ -tables $(CURDIR)/bin/tables -hups $(HUPS)
	go test -tags conformance -count=1 -run Completion ./cmd/start_server
	go test -tags conformance -count=1 -run Perl ./internal/swaploss
	@cat bin/tables

conformance-systemd: build
	go test -tags systemd -count=1 -timeout 10m ./internal/conformance/systemd

cross:
	for os in darwin freebsd openbsd netbsd; do for arch in amd64 arm64; do GOOS=$$os GOARCH=$$arch go vet ./... || exit; done; done
	for os in illumos solaris; do GOOS=$$os GOARCH=amd64 go vet ./... || exit; done
	for arch in arm64 386 arm; do GOOS=linux GOARCH=$$arch go vet ./... || exit; done
	! errors=$$(GOOS=windows go build -o /dev/null ./cmd/start_server 2>&1) && \
	  echo "$$errors" | grep -q start_server_does_not_run_on_windows

# It builds nothing: root may have no Go in its PATH, and must not write to the caches of a user.
install: $(BINARY)
	install -d $(sort $(dir $(addprefix $(TREE)/,$(INSTALLED))))
	install -m 755 $(BINARY) $(TREE)/bin/start_server
	install -m 644 README.md .github/CHANGELOG.md LICENSE $(TREE)/$(DOCDIR)/
	install -m 644 cmd/start_server/README.md $(TREE)/$(DOCDIR)/guide.md
	install -m 644 $(EXAMPLES) $(TREE)/$(DOCDIR)/examples/
	install -m 644 cmd/start_server/start_server.1 $(TREE)/share/man/man1/
	install -m 644 cmd/start_server/completion/start_server.bash $(TREE)/$(BASHDIR)/start_server
	install -m 644 cmd/start_server/completion/_start_server $(TREE)/$(ZSHDIR)/
	install -m 644 cmd/start_server/completion/start_server.fish $(TREE)/$(FISHDIR)/

$(BINARY):
	@echo "make install: $@ does not exist: run 'make' first" >&2; exit 1

uninstall:
	rm -f $(addprefix $(TREE)/,$(INSTALLED))
	test ! -d $(TREE)/$(DOCDIR) || rmdir $(TREE)/$(DOCDIR)/examples $(TREE)/$(DOCDIR)

# Tarballs for `tar -xz --strip-components=1 -C /usr/local`, packages, checksums. The same commit makes the same bytes.
dist:
	rm -rf dist && mkdir dist
	gzip -9n <cmd/start_server/start_server.1 >dist/start_server.1.gz
	gzip -9n <.github/CHANGELOG.md >dist/CHANGELOG.md.gz
	set -e; for p in $(PLATFORMS); do $(MAKE) -s tarball OS=$${p%/*} ARCH=$${p#*/}; done
	set -e; for p in $(filter linux/%,$(PLATFORMS)); do $(MAKE) -s packages ARCH=$${p#*/}; done
	cd dist && rm -rf binary-* *.1.gz *.md.gz start_server-$(VERSION)-*[!z] && sha256sum * >SHA256SUMS && cat SHA256SUMS

# A tarball has no entries for directories, so that extracting it does not change the modes and owners of existing ones.
tarball: NAME = start_server-$(VERSION)-$(OS)-$(ARCH)
tarball: BINARY = dist/binary-$(OS)-$(PACKAGEARCH)
tarball:
	GOOS=$(OS) GOARCH=$(ARCH) GOARM=6 $(GOBUILD) -o $(BINARY) ./cmd/start_server
	$(MAKE) -s install BINARY=$(BINARY) DESTDIR=dist/$(NAME) PREFIX=
	(cd dist && find $(NAME) -type f | LC_ALL=C sort | $(TAR) -T - -cf -) | gzip -9n >dist/$(NAME).tar.gz

packages:
	set -e; for kind in deb rpm apk; do ARCH=$(PACKAGEARCH) VERSION=$(VERSION) SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) \
	  go run $(NFPM) package -f .nfpm/nfpm.yaml -p $$kind -t dist; done

clean:
	rm -rf bin dist coverage
