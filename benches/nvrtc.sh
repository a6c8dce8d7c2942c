#!/usr/bin/env bash
# Compiles the CUDA form of every kernel without a GPU, for sm_80 and sm_90: NVRTC to PTX, ptxas to machine
# code. Prints for each kernel its registers and spilled bytes, and fails if one does not compile or
# spills more than a few registers (ptxas trades some for more blocks at once).
#
#     benches/nvrtc.sh BINARY
#
# BINARY is impasto built with the feature `cuda`. Needs cc, python3 with venv, and PyPI (NVIDIA's wheels of
# NVRTC, headers and ptxas, 200 MB). The driver is cuda_stub.c, so nothing is computed: only compiled.
set -euo pipefail

[ $# = 1 ] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
binary=$(realpath "$1")
benches=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cc -w -shared -fPIC -o "$work/libcuda.so.1" "$benches/cuda_stub.c"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --target "$work/cuda" \
    nvidia-cuda-{nvrtc,runtime,nvcc,cccl}-cu12==12.9.*
# The wheels of CUDA 12 have a folder each; the runtime takes one.
mkdir "$work/toolkit"
for include in "$work"/cuda/nvidia/*/include; do cp -rn "$include" "$work/toolkit/"; done
ptxas=$work/cuda/nvidia/cuda_nvcc/bin/ptxas
chmod +x "$ptxas"

status=0
for arch in 80 90; do
    ptx=$work/ptx$arch
    mkdir "$ptx"
    for precision in f32 tf32 bf16; do
        for size in 33 512; do
            CUDA_PATH=$work/toolkit LD_LIBRARY_PATH=$work:$work/cuda/nvidia/cuda_nvrtc/lib \
                XDG_CACHE_HOME=$work/cache$arch-$precision-$size STUB_ARCH=$arch STUB_PTX=$ptx \
                "$binary" bench --device cuda --precision "$precision" --encoder builtin --size "$size" \
                --repeats 1 --no-check --quiet --json "$work/bench.json"
            for file in "$ptx"/[0-9]*.ptx; do
                # The same kernel is compiled by every run.
                mv "$file" "$ptx/k-$(md5sum <"$file" | cut -c1-32).ptx"
            done
        done
    done
    target=sm_$arch
    [ "$arch" -lt 90 ] || target=${target}a
    for file in "$ptx"/k-*.ptx; do
        name=$(sed -n 's/^\.visible \.entry \([a-z0-9_]*\).*/\1/p' "$file" | head -1)
        facts=$("$ptxas" -v -arch="$target" "$file" -o "$work/kernel.cubin" 2>&1) || { echo "$facts"; status=1; }
        registers=$(sed -n 's/.*Used \([0-9]*\) registers.*/\1/p' <<<"$facts")
        spilled=$(sed -n 's/.* \([0-9]*\) bytes spill stores.*/\1/p' <<<"$facts")
        echo "$target $name: $registers registers, $spilled bytes spilled"
        [ "$spilled" -le 64 ] || status=1
    done
done
exit $status
