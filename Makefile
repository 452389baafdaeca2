# Serin. `make help` lists what there is. Two commands do all the set-up on a
# fresh machine: `make demo` (needs Go and nothing else) and `make test`.

GO      ?= go
TOOL     = $(GO) tool -modfile=tools/go.mod
OUT     ?= demo-out
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -s -w -X main.version=$(VERSION)
TESTFLAGS ?=

.PHONY: help build demo test quick test-long lint generate bench-gateway bench-judge bench-core clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/serin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/serin ./cmd/serin

demo: build ## the whole story on this machine, about 90 seconds: v1, a good v2, a bad v3
	./bin/serin demo --out $(OUT)
	./bin/serin demo --check $(OUT)

test: lint ## everything, the race detector on
	$(GO) test -race -timeout 30m $(TESTFLAGS) ./...

quick: ## the inner loop: everything, fewer worlds, no race detector
	$(GO) vet ./...
	SERIN_WORLDS=300 $(GO) test ./...

test-long: ## 100,000 worlds and the judge's full campaigns, without the race detector
	SERIN_WORLDS=100000 $(GO) test -timeout 120m -count=1 ./internal/sim
	$(GO) test -timeout 300m -count=1 ./internal/sim/worlds -run Campaign -v -sets healthy,weather,blind,latency,cold,clean,ugly,slow,onset -runs 1000

lint: ## gofmt, vet, staticcheck, generated files, govulncheck where its database can be reached
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "not gofmt'ed:"; echo "$$bad"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	@./tools/check-generated
	@./tools/check-vulnerabilities

generate: ## write generated files anew
	$(TOOL) controller-gen object paths=./api/...

bench-gateway: ## the gateway beside nginx and HAProxy on the same work (Debian packages)
	./test/bench-gateway/run

bench-judge: build ## the judge beside the peers' rules on the public set of scenarios, against the golden table
	./bin/serin simulate --scenarios test/scenarios --golden

bench-core: ## one decision, one look, one pass
	$(GO) test -run '^$$' -bench . -benchmem ./internal/rollout ./internal/analysis ./internal/engine ./internal/gateway

clean: ## what was built
	rm -rf bin $(OUT)
