# raftsman: what one can do. `make` alone prints it.

SHELL       := /bin/bash
.DEFAULT_GOAL := help
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION    := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS     := -s -w -X main.buildVersion=$(VERSION)
STATIC      := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
ETCD_IMAGE_OFFICIAL := gcr.io/etcd-development/etcd:v3.6.16
FUZZTIME    ?= 30s

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/raftsman, static
	$(STATIC) -o bin/raftsman ./cmd/raftsman

.PHONY: build-etcd
build-etcd: ## build bin/etcd and bin/etcdctl from the pinned modules, static
	$(STATIC) -o bin/etcd ./deploy/etcd/cmd/etcd
	$(STATIC) -o bin/etcdctl ./deploy/etcd/cmd/etcdctl

.PHONY: proto
proto: ## make the Go code of api/raftsman/v1/*.proto, with nothing but Go
	go generate ./api/...

.PHONY: test
test: lint ## gofmt, vet, linter, and all tests that need nothing but Go, with -race
	@if [ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC)" >/dev/null; then \
		go test -race -timeout 25m ./...; \
	else \
		echo "*** no C compiler: running WITHOUT the race detector (install gcc for it) ***"; \
		CGO_ENABLED=0 go test -timeout 25m ./...; \
	fi

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l api cmd deploy internal pkg test); \
		if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags system ./test/...
	go tool staticcheck ./...

.PHONY: test-system
test-system: build build-etcd ## tests with real processes, clients and containers; needs root and Docker
	./test/system/prepare.sh
	./test/failures.sh go test -tags system -count=1 -parallel 4 -timeout 35m -v ./test/system/...
	$(MAKE) --no-print-directory test-clients

.PHONY: test-clients
test-clients: build build-etcd ## real clients against three nodes; needs root and a C compiler; RAFTSMAN_MINUTES=10: for longer
	./test/system/prepare.sh
	cd test/clients && go vet ./... && \
		../failures.sh go test -count=1 -parallel 8 -timeout 40m -v . $(if $(UPDATE),-update)

.PHONY: record-requests
record-requests: build build-etcd ## record what real clients send, for FuzzRecorded; needs what test-clients needs
	./test/system/prepare.sh
	cd test/clients && go test -count=1 -parallel 8 -timeout 20m -v -run '^TestRecord$$' . -record

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (30s); prints the hours
	@FUZZTIME=$(FUZZTIME) ./test/fuzz/run.sh

.PHONY: fuzz-planted
fuzz-planted: ## plant known bugs in copies of the code; the fuzz targets must find each
	@./test/fuzz/planted.sh

TORTURE ?= --processes --duration 10m

.PHONY: torture
torture: build ## torture a cluster of processes for ten minutes; TORTURE='--nodes 5 --seed 7 --duration 6h' for more
	bin/raftsman torture $(TORTURE)

.PHONY: torture-planted
torture-planted: build ## plant known bugs in copies of the code; raftsman torture must find each
	@./test/torture/planted.sh

.PHONY: bench
bench: ## Go benchmarks of each hop against another commit; ARGS='-base COMMIT -packages ./internal/wal'
	cd test/bench && go run . hops $(ARGS)

.PHONY: build-bench
build-bench: build build-etcd ## build bin/bench and bin/nats-server, which it measures raftsman beside
	cd test/bench && CGO_ENABLED=0 go build -trimpath -o ../../bin/nats-server github.com/nats-io/nats-server/v2
	cd test/bench && CGO_ENABLED=0 go build -o ../../bin/bench .

.PHONY: bench-peers
bench-peers: build-bench ## raftsman beside JetStream and a Kafka server in memory, for hours; ARGS='-round 10s', as bench run -help
	bin/bench run $(ARGS)

.PHONY: test-bench
test-bench: build-bench ## tests of the bench: its arithmetic, and a short round of each system
	cd test/bench && go vet ./... && ../failures.sh go test -count=1 -timeout 10m -v ./...

.PHONY: image
image: build ## build the container image raftsman:dev from bin/raftsman
	docker build -q -t raftsman:dev --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) -f deploy/Dockerfile.binary bin

.PHONY: image-etcd
image-etcd: build-etcd ## build the container image raftsman-etcd:dev, where the official one can't be pulled
	docker build -q -t raftsman-etcd:dev -f deploy/etcd/Dockerfile bin

.PHONY: packages
packages: ## build .deb and .rpm of raftsman into dist/, for this machine or for ARCHS="amd64 arm64"
	./deploy/packages/build.sh

.PHONY: release
release: ## build packages, archives, bills of materials and checksums of the checked out tag into dist/
	./deploy/release.sh

COMPOSE ?= $(shell command -v docker-compose >/dev/null && echo docker-compose || echo docker compose)

.PHONY: up
up: image ## build what is missing and start three etcd and three workers
	@export ETCD_IMAGE="$${ETCD_IMAGE:-$(ETCD_IMAGE_OFFICIAL)}"; \
	if ! docker image inspect "$$ETCD_IMAGE" >/dev/null 2>&1 && ! docker pull -q "$$ETCD_IMAGE" 2>/dev/null; then \
		echo "$$ETCD_IMAGE can't be pulled: building etcd from source"; \
		$(MAKE) --no-print-directory image-etcd && export ETCD_IMAGE=raftsman-etcd:dev; \
	fi; \
	$(COMPOSE) up -d && echo "brokers: $$(./deploy/brokers.sh)"

.PHONY: down
down: ## stop the containers; their data stays (docker-compose down -v removes it)
	$(COMPOSE) stop

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
