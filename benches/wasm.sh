#!/usr/bin/env bash
# Evaluations with the built-in encoder on WebAssembly (Node) beside native code, both on one thread, in turn:
# `benches/wasm.sh [SIZE [ROUNDS]]`. Prints the least seconds of eight in each round.
set -euo pipefail
cd "$(dirname "$0")/.."
size=${1:-256} rounds=${2:-5}
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
flags='-C target-feature=+simd128'
cargo build --quiet --release --package impasto-tools --bin evaluate
CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=$flags \
    cargo build --quiet --release --package impasto-tools --bin evaluate --target wasm32-wasip1

least() {
    # Node 20 ends with a fault where WASI's standard input has ended, after all is said.
    for _ in $(seq 8); do echo evaluate; done |
        ("$@" assets/builtin.safetensors "$size" || true) 2>/dev/null | sed 's/.*"seconds":\([0-9.]*\).*/\1/' | sort -g | head -1
}
export RAYON_NUM_THREADS=1
for _ in $(seq "$rounds"); do
    native=$(least "$target/release/evaluate")
    wasm=$(least node --no-warnings .ci/wasi.mjs "$target/wasm32-wasip1/release/evaluate.wasm")
    echo "native $native s, WebAssembly $wasm s"
done
