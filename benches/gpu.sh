#!/usr/bin/env bash
# impasto beside PyTorch on a GPU, without a network: times, memory, first iterations, pictures.
#
#     benches/gpu.sh BINARY WEIGHTS OUTDIR [options]
#
# BINARY is impasto built with the feature `cuda`, WEIGHTS a safetensors file of
# `impasto weights import FILE --until relu5_1 -o WEIGHTS` (26 MB). Needs python3 with torch, triton,
# safetensors, numpy and pillow. Writes to OUTDIR: gpu.json (everything, after each part), gpu.txt (the
# tables), stylized-impasto.png, stylized-pytorch.png and stylized.png (both beside content and style).
#
#   --parts first,impasto,eager,compile,stylize,check  what to run (all)
#   --sizes 512,1024,2048       sides of the square pictures
#   --precisions tf32,f32,bf16  the first also for first iterations and stylization; compile: not f32
#   --repeats 10                of each evaluation and step
#   --iterations 200            of the stylization
#   --stylize-size 512
#   --content FILE --style FILE pictures (those in assets)
#   --device cuda|cpu           cuda if there is a GPU
#   --seconds 540               the whole; what no longer fits is left out
#   --part-seconds 150          each part at most
#
# Each part has its own process, caches as said, and limit: one that hangs costs only itself. What is
# measured how: `method` in gpu.json, and gpu.py.
set -euo pipefail

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    exit "$1"
}

fail() {
    echo "gpu.sh: $1" >&2
    exit 2
}

case ${1-} in -h | --help) usage 0 ;; esac
[ $# -ge 3 ] || usage 2 >&2
benches=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$(realpath "$1") weights=$(realpath "$2")
[ -f "$binary" ] || fail "no file $1"
[ -f "$weights" ] || fail "no file $2"
mkdir -p "$3"
out=$(realpath "$3")
shift 3
rm -f "$out"/gpu.{json,txt} "$out"/stylized{,-impasto,-pytorch}.png

parts=first,impasto,eager,compile,stylize,check
sizes=512,1024,2048 precisions=tf32,f32,bf16
repeats=10 iterations=200 stylize_size=512
content=$benches/../assets/scene.jpg style=$benches/../assets/swirls.jpg
device=cpu
if nvidia-smi >/dev/null 2>&1; then device=cuda; fi
seconds=540 part_seconds=150
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || fail "$1 needs a value"
    case $1 in
    --parts) parts=$2 ;;
    --sizes) sizes=$2 ;;
    --precisions) precisions=$2 ;;
    --repeats) repeats=$2 ;;
    --iterations) iterations=$2 ;;
    --stylize-size) stylize_size=$2 ;;
    --content) content=$2 ;;
    --style) style=$2 ;;
    --device) device=$2 ;;
    --seconds) seconds=$2 ;;
    --part-seconds) part_seconds=$2 ;;
    *) fail "what is $1?" ;;
    esac
    shift 2
done
content=$(realpath "$content") style=$(realpath "$style")
IFS=, read -ra sizes <<<"$sizes"
IFS=, read -ra precisions <<<"$precisions"
first=${precisions[0]}

chmod +x "$binary" 2>/dev/null || true
# A name that is short in gpu.json, and not the caller's folders.
work=$(mktemp -d)
mkdir "$work/parts" "$work/pictures"
ln -s "$binary" "$work/impasto"
ln -s "$weights" "$work/weights.safetensors"
impasto=$work/impasto weights=$work/weights.safetensors pictures=$work/pictures
gpu=${CUDA_VISIBLE_DEVICES:-0}
gpu=${gpu%%,*}
case $gpu in '' | *[!0-9]*) gpu=0 ;; esac

watcher=
finish() {
    trap - EXIT
    if [ -n "$watcher" ]; then
        kill "$watcher" 2>/dev/null || true
        wait "$watcher" 2>/dev/null || true
    fi
    python3 "$benches/gpu.py" sheet --output "$out/stylized.png" "$pictures/content-$stylize_size.png" \
        "$pictures/style-$stylize_size.png" "$out/stylized-impasto.png" "$out/stylized-pytorch.png" ||
        true
    python3 "$benches/gpu.py" report --parts "$work/parts" --output "$out/gpu.json" --tables |
        tee "$out/gpu.txt" || true
    echo "$SECONDS s; $out/gpu.json"
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# part NAME CACHES COMMAND...: in gpu.json under NAME. CACHES is a folder that may be of other parts.
part() {
    local name=$1 caches=$2 limit=$((seconds - SECONDS - 15))
    shift 2
    if [ "$limit" -lt 5 ]; then
        echo "$name: left out, no time" >&2
        return
    fi
    if [ "$limit" -gt "$part_seconds" ]; then limit=$part_seconds; fi
    local began=$SECONDS status=0
    python3 "$benches/gpu.py" watch --name "$name" --parts "$work/parts" --caches "$work/caches/$caches" \
        --gpu "$gpu" --limit "$limit" -- "$@" &
    watcher=$!
    wait "$watcher" || status=$?
    watcher=
    echo "$name: $((SECONDS - began)) s$([ "$status" = 0 ] || echo ", failed ($status)")" >&2
    python3 "$benches/gpu.py" report --parts "$work/parts" --output "$out/gpu.json" || true
}

wants() {
    case ,$parts, in *,$1,*) ;; *) return 1 ;; esac
}

# impasto takes the CUDA toolkit from CUDA_PATH or its usual places, or else from PyTorch's packages.
if [ "$device" = cuda ]; then
    nvidia=$(python3 -c 'import nvidia; print(*nvidia.__path__)' 2>/dev/null || true)
    if [ -z "${CUDA_PATH-}" ] && [ ! -e /usr/local/cuda ] && [ ! -e /opt/cuda ] && [ ! -e /usr/bin/nvcc ]; then
        for folder in "$nvidia"/cu13 "$nvidia"/cuda_runtime; do
            if [ -d "$folder/include" ]; then export CUDA_PATH=$folder && break; fi
        done
    fi
    libraries=${LD_LIBRARY_PATH-}
    for folder in "${CUDA_PATH:-/usr/local/cuda}"/lib64 "$nvidia"/cu13/lib "$nvidia"/cuda_nvrtc/lib; do
        if [ -d "$folder" ]; then libraries=${libraries:+$libraries:}$folder; fi
    done
else
    libraries=${LD_LIBRARY_PATH-}
fi
ours() {
    env LD_LIBRARY_PATH="$libraries" "$impasto" "$@"
}

# impasto_bench NAME CACHES SIZE PRECISION ARGUMENTS...
impasto_bench() {
    local name=$1 caches=$2 size=$3 precision=$4
    shift 4
    part "$name" "$caches" env LD_LIBRARY_PATH="$libraries" "$impasto" bench --device "$device" \
        --precision "$precision" --weights "$weights" --size "$size" \
        --content "$pictures/content-$size.png" --style "$pictures/style-$size.png" --json RESULTS "$@"
}

# torch_bench NAME CACHES PRECISION ARGUMENTS...
torch_bench() {
    local name=$1 caches=$2 precision=$3
    shift 3
    part "$name" "$caches" python3 "$benches/gpu.py" bench --device "$device" --precision "$precision" \
        --weights "$weights" --pictures "$pictures" "$@"
}

part_seconds=90 part machine shared python3 "$benches/gpu.py" machine
part pictures shared python3 "$benches/gpu.py" pictures --content "$content" --style "$style" \
    --pictures "$pictures" --sizes "${sizes[@]}" "$stylize_size"
cat "$binary" "$weights" >/dev/null

if wants first; then
    for cache in cold warm; do
        if wants impasto; then
            impasto_bench "impasto-$first-$cache" impasto "${sizes[0]}" "$first" --repeats 1 --no-check
        fi
        if wants eager; then
            torch_bench "eager-$first-$cache" eager "$first" --sizes "${sizes[0]}" --repeats 1
        fi
        if wants compile; then
            torch_bench "compile-$first-$cache" compile "$first" --sizes "${sizes[0]}" --repeats 1 --compile
        fi
    done
fi
if wants stylize; then
    flags=(--device "$device")
    if ours stylize --help 2>&1 | grep -q -- '--precision'; then flags+=(--precision "$first"); fi
    part stylize-impasto impasto env LD_LIBRARY_PATH="$libraries" "$impasto" stylize \
        "$pictures/content-$stylize_size.png" "$pictures/style-$stylize_size.png" \
        -o "$out/stylized-impasto.png" --recipe neural-style --init content --size "$stylize_size" \
        --iterations "$iterations" --weights "$weights" --log RESULTS --quiet "${flags[@]}"
    part stylize-pytorch eager python3 "$benches/gpu.py" stylize --device "$device" --precision "$first" \
        --weights "$weights" --pictures "$pictures" --sizes "$stylize_size" \
        --iterations "$iterations" --output "$out/stylized-pytorch.png"
fi
for precision in "${precisions[@]}"; do
    if wants impasto; then
        for size in "${sizes[@]}"; do
            impasto_bench "impasto-$precision-$size" impasto "$size" "$precision" \
                --repeats "$repeats" --no-check
        done
    fi
    if wants eager; then
        torch_bench "eager-$precision" eager "$precision" --sizes "${sizes[@]}" --repeats "$repeats"
    fi
    if wants compile && [ "$precision" != f32 ]; then
        torch_bench "compile-$precision" compile "$precision" --sizes "${sizes[@]}" --repeats "$repeats" --compile
    fi
done
# What impasto computes on the device beside what it does on the CPU.
if wants check; then
    for precision in "${precisions[@]}"; do
        impasto_bench "check-$precision" impasto "${sizes[0]}" "$precision" --repeats 1
    done
fi
