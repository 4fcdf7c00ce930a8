# make demo    the whole walk-through in a network namespace of its own; Ctrl-C ends it   (ONCE=1: do not wait)
# make test    every test, end-to-end ones included   (ROOM=dns: of one folder; RUN=TestX: those of that name)
# make lint    gofmt, go vet and staticcheck, of the benchmarks, too
# make help    the other targets
#
# You need Go, make and git; a target installs the other tools that it needs (scripts/deps.sh).

# One set of build flags for everything, so that the tests reuse what the build compiled.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false
# Debian keeps iptables, ip and nft where an ordinary user's PATH does not look.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# What `kubectl version` shows for both sides: the release of the libraries.
K8S     := $(shell awk '$$1 == "k8s.io/kubernetes" {print $$2; exit}' go.mod)
KVER    := k8s.io/component-base/version
LDFLAGS := -s -w -X main.version=$(VERSION) -X $(KVER).gitVersion=$(K8S) -X $(KVER).gitTreeState=clean \
	-X $(KVER).gitMajor=$(word 1,$(subst ., ,$(K8S:v%=%))) -X $(KVER).gitMinor=$(word 2,$(subst ., ,$(K8S:v%=%)))
PREFIX  ?= /usr/local
BIN     := bin/svcplane
SUDO    := $(if $(filter-out 0,$(shell id -u)),sudo -E env "PATH=$(PATH)")
# -p 2: the end-to-end tests start servers, which starve each other on a small machine; -count=1: the cache of results does
# not know the kernel as an input.
TESTFLAGS ?= -p 2 -count=1 -timeout 35m
# bench is a module of its own, whose tests run only when they are asked for.
GOTEST   := go test$(if $(filter bench%,$(ROOM)), -C bench)
PACKAGES := $(if $(ROOM),./$(patsubst bench,.,$(ROOM:bench/%=%))/...,./...)

.PHONY: help deps build install man deb dist dist-check systemd-check demo test bench bench-dns bench-ingress bench-pods bench-proxy generate lint clean
help:
	@sed -n 's/^# make /make /p' Makefile
	@echo 'make build | install | man | deb | dist | dist-check | systemd-check | bench | bench-dns | bench-ingress | bench-pods | bench-proxy | generate | lint | clean'

deps:
	@scripts/deps.sh

build:
	@scripts/gobuild.sh -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/svcplane

install: build
	$(SUDO) install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/bin/svcplane

# The manual pages, as packages take them; read one with man -l bin/man/svcplane.1.
man: build
	@rm -rf bin/man
	$(BIN) man bin/man

# dist/svcplane_VERSION_ARCH.deb, for this machine's architecture.
deb: build
	@scripts/deps.sh deb
	@file=$$(scripts/deb.sh $(BIN) '$(VERSION)' dist) && echo $$file && lintian --fail-on error --tag-display-limit 0 $$file

# dist/svcplane-VERSION-linux-ARCH.tar.gz, with checksums. The first time, each architecture compiles everything anew.
ARCHS := amd64 arm64 armv7 riscv64
cross := $(ARCHS:%=bin/linux-%/svcplane)
.PHONY: $(cross)
$(cross): bin/linux-%/svcplane:
	GOOS=linux GOARCH=$(patsubst armv7,arm,$*) GOARM=7 go build -ldflags '$(LDFLAGS)' -o $@ ./cmd/svcplane

dist: build $(cross)
	@scripts/dist.sh $(BIN) '$(VERSION)' dist $(foreach arch,$(ARCHS),$(arch)=bin/linux-$(arch)/svcplane)

# Starts what `make dist` has made, under qemu-user where this machine is of another architecture.
dist-check:
	@scripts/deps.sh dist-check
	@$(SUDO) scripts/distcheck.sh dist

# Installs, hangs, upgrades and uninstalls the service, on a copy of this machine that a real systemd runs.
systemd-check: build
	@scripts/deps.sh systemd-check
	@$(SUDO) scripts/systemdcheck.sh $(BIN)

bin/lanserver: $(wildcard test/lanserver/*.go)
	go build -o $@ ./test/lanserver

demo: deps build bin/lanserver
	@ONCE='$(ONCE)' $(SUDO) scripts/demo.sh

test: export SVCPLANE_BIN := $(CURDIR)/$(BIN)
test: export LANSERVER := $(CURDIR)/bin/lanserver
test: deps $(if $(filter-out test%,$(ROOM)),,build bin/lanserver)
	@scripts/deps.sh test
	@go run ./test/testsum -- $(GOTEST) -json -vet=off $(if $(SUDO),-exec 'sudo -E') $(TESTFLAGS) $(if $(RUN),-run '$(RUN)') $(PACKAGES)

bench:
	@scripts/deps.sh bench
	@$(MAKE) --no-print-directory build
	@$(SUDO) bench/numbers.sh

# The peers that benchmarks compare with (CoreDNS, kube-proxy, Caddy) are modules of their own: their dependencies are not ours.
bin/coredns: bench/dns/coredns/main.go bench/dns/coredns/go.mod
	cd bench/dns/coredns && go build -o $(CURDIR)/$@ .

bench-dns: bin/coredns
	@scripts/deps.sh bench
	@$(MAKE) --no-print-directory build
	cd bench && go build -o $(CURDIR)/bin/benchdns ./dns
	@$(SUDO) bench/dns/bench.sh

bin/kube-proxy: bench/proxy/kubeproxy/main.go bench/proxy/kubeproxy/go.mod
	cd bench/proxy/kubeproxy && go build -o $(CURDIR)/$@ .

bench-proxy: bin/kube-proxy
	@scripts/deps.sh bench
	@$(MAKE) --no-print-directory build
	cd bench && go build -o $(CURDIR)/bin/bench-ours ./proxy/ours
	cd bench && go build -o $(CURDIR)/bin/bench-proxy ./proxy
	@$(SUDO) bin/bench-proxy $(BENCHFLAGS)

bin/caddy: bench/ingress/caddy/main.go bench/ingress/caddy/go.mod
	cd bench/ingress/caddy && go build -o $(CURDIR)/$@ .

bench-ingress: bin/caddy
	@scripts/deps.sh bench-ingress
	@$(MAKE) --no-print-directory build
	cd bench && go build -o $(CURDIR)/bin/ingressfront ./ingress/front
	cd bench && go build -o $(CURDIR)/bin/wsload ./ingress/wsload
	cd bench && go build -o $(CURDIR)/bin/ingresschanges ./ingress/changes
	@bench/ingress/run.sh
	@$(SUDO) bench/ingress/changes.sh

bench-pods:
	@scripts/deps.sh bench-pods
	@$(MAKE) --no-print-directory build
	cd bench && go build -o $(CURDIR)/bin/bench-pods ./pods
	cd bench && go build -ldflags '-s -w' -o $(CURDIR)/bin/bench-mark ./pods/mark
	@$(SUDO) bench/pods/run.sh $(BENCHFLAGS)

generate:
	@scripts/deps.sh generate
	go generate ./...

# staticcheck's version is in tools/go.mod, a module of its own, because its dependencies are not ours. Its first run on a
# machine reads everything that we depend on, and takes minutes.
bin/staticcheck: tools/go.mod
	cd tools && go build -o $(CURDIR)/$@ honnef.co/go/tools/cmd/staticcheck

# bench, too: it uses packages of ours, and no other check compiles it.
lint: bin/staticcheck
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt: these files are not formatted (gofmt -w):"; echo "$$out"; exit 1; fi
	go vet ./...
	cd bench && go vet ./...
	bin/staticcheck ./...
	cd bench && ../bin/staticcheck ./...

clean:
	rm -rf bin dist
