"""impasto beside PyTorch: the same weights, image and losses, the same cores, in turn.

    cargo build --release --features cli,ndarray --bin impasto
    cargo build --release --package impasto-tools --features ndarray --bin evaluate
    pip install torch safetensors numpy
    python benches/compare.py                       # tables on standard output
    python benches/compare.py --sizes 256 512x341 --rounds 5
    python benches/compare.py --tiles 512 256 --before OLD/evaluate --no-torch   # impasto alone

An evaluation is VGG19 to relu5_1, five Gram matrices (divided by the positions, mean squared
error), the content at relu4_2, and the gradient of their sum with respect to the image. Weights are
random (He), images a fixed pattern, so that nothing is downloaded. Both programs stay alive and are
asked in turn, A B A B; times are medians. That both compute the same is checked by the loss and the
norm of the gradient. A step is one of L-BFGS with up to 100 pairs (of as many as there were steps
before) on this loss and total variation.

"GEMM" is a product of two 2048 x 2048 matrices in PyTorch, measured in the same rounds: the roofline
of an evaluation is a quarter of the multiplications of its direct convolutions at that rate, as
Winograd's F(4x4, 3x3) needs them. "Copy" is a copy of 256 MB in PyTorch, counted as 512 MB: the
floor of the bytes is what an evaluation must read and write at that rate, if each tensor and each
packed kernel (36 values for 9) passes once (`--only bytes` prints it for each layer).

The script runs itself with --worker for PyTorch's side.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vgg19 import CONTENT, CONVOLUTIONS, INDICES, STYLE, Losses, Vgg19

ROOT = Path(__file__).resolve().parent.parent
# Weight of the total variation in a step, as in `evaluate`.
VARIATION = 1e-3
COPIED = 256_000_000


def write_weights(path):
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(19)
    weights, channels = {}, 3
    widths = [width for width in CONVOLUTIONS if width != "M"]
    for index, width in zip(INDICES, widths):
        scale = (2 / (9 * channels)) ** 0.5
        weights[f"features.{index}.weight"] = torch.randn(width, channels, 3, 3) * scale
        weights[f"features.{index}.bias"] = torch.randn(width) * 0.01
        channels = width
    save_file(weights, path)


# --- PyTorch's side ----------------------------------------------------------------------


def worker(weights, size, dtype, copies):
    """Answers `evaluate`, `step` (of L-BFGS), `gemm` and `copy`, a line each."""
    import numpy
    import torch

    network = Vgg19(weights, getattr(torch, dtype))

    width, height = sides(size)

    def picture(offset):
        i = numpy.arange(3 * width * height, dtype=numpy.uint32) + numpy.uint32(offset)
        values = (i * numpy.uint32(2654435761) >> 8).astype(numpy.float32) / 16777216.0
        return torch.from_numpy(values.reshape(1, 3, height, width))

    losses = Losses(network, picture(1), picture(1))
    image = picture(7).requires_grad_()
    optimizer = torch.optim.LBFGS([image], lr=1, max_iter=1, history_size=100)

    def loss():
        return sum(losses(image))

    def closure():
        optimizer.zero_grad()
        rows, columns = image.diff(dim=2), image.diff(dim=3)
        value = loss() + VARIATION * (rows.abs().sum() + columns.abs().sum())
        value.backward()
        return value

    square = torch.randn(2048, 2048)
    source, target = torch.randn(2, COPIED // 4) if copies else (None, None)
    for line in sys.stdin:
        start, answer = time.perf_counter(), {}
        match line.strip():
            case "evaluate":
                value = loss()
                (gradient,) = torch.autograd.grad(value, image)
                answer = {"loss": value.item(), "gradient": gradient.norm().item()}
            case "step":
                answer = {"loss": optimizer.step(closure).item()}
            case "gemm":
                torch.mm(square, square)
            case "copy":
                target.copy_(source)
        print(json.dumps({"seconds": time.perf_counter() - start, **answer}), flush=True)


# --- both sides in turn ------------------------------------------------------------------


class Program:
    def __init__(self, *command):
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question):
        # The other program's threads may still spin for work.
        time.sleep(0.3)
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def peak(self):
        """Most resident memory so far, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1e3

    def faults(self):
        """Pages that the system had to fill so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[7])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def torch_program(weights, size, dtype="float32", extra=()):
    return Program(
        sys.executable, __file__, "--worker", weights, "--sizes", size, "--dtype", dtype, *extra
    )


def evaluate_binary():
    return ROOT / "target/release/evaluate"


def sides(size):
    """Width and height of `512` or `512x341`."""
    width, _, height = size.partition("x")
    return int(width), int(height or width)


def shown(size):
    width, height = sides(size)
    return f"{width}²" if width == height else f"{width}×{height}"


def convolutions(size):
    """Name, channels in and out, width and height, and whether a pool follows."""
    (width, height), channels = sides(size), 3
    block, number, rows = 1, 1, []
    for index, channels_out in enumerate(CONVOLUTIONS):
        if channels_out == "M":
            width, height, block, number = width // 2, height // 2, block + 1, 1
            continue
        pooled = CONVOLUTIONS[index + 1 : index + 2] == ["M"]
        rows.append((f"conv{block}_{number}", channels, channels_out, (width, height), pooled))
        channels, number = channels_out, number + 1
    return rows


def multiplications(size):
    return sum(9 * before * after * width * height for _, before, after, (width, height), _ in convolutions(size))


def layer_bytes(size):
    """For each convolution the bytes of its tensors, and of what passes through the caches; both directions alike."""
    rows = []
    for index, (name, before, after, (width, height), pooled) in enumerate(convolutions(size)):
        count = width * height
        tiles = -(-width // 4) * -(-height // 4)
        kernel = 4 * 36 * before * after
        # With AVX-512: blocks of four panels of sixteen tiles, or of two where the kernel stays in the cache.
        blocks = -(-tiles // (64 if kernel > 4 << 18 else 32))
        features = 4 * after * count
        rows.append({
            "layer": name,
            "input": 4 * before * count,
            "output": features // (4 if pooled else 1),
            "masks": 2 * after * tiles,
            "kernel": kernel,
            "kernel, by blocks": kernel * blocks,
            "patches": 4 * 36 * before * tiles,
            # Forward the features are read (and the target, for the content); backward again, and the gradient read
            # and written.
            "losses": 4 * features if index in STYLE else 6 * features if index == CONTENT else 0,
        })  # fmt: skip
    return rows


def least_bytes(size):
    """The least bytes of an evaluation: each tensor and each kernel passes once."""
    both = ("input", "output", "masks", "kernel")
    return sum(2 * sum(row[name] for name in both) + row["losses"] for row in layer_bytes(size))


def print_bytes(sizes):
    """Bytes for each layer: what must pass through memory, and what passes through the caches."""
    for size in sizes:
        rows = layer_bytes(size)
        names = list(rows[0])
        print(f"\nMB of each layer and direction at {shown(size)}; least of an evaluation {least_bytes(size) / 1e6:.0f} MB:\n")
        print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
        rows.append({"layer": "all", **{name: sum(row[name] for row in rows) for name in names[1:]}})
        for row in rows:
            print("| " + " | ".join([row["layer"], *(f"{row[name] / 1e6:.1f}" for name in names[1:])]) + " |")


def machine():
    """The processor and its caches."""
    info = Path("/proc/cpuinfo").read_text()
    field = lambda name: next(l.partition(":")[2].strip() for l in info.splitlines() if l.startswith(name))
    caches = [
        f"L{(cache / 'level').read_text().strip()} {(cache / 'size').read_text().strip()}"
        for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
        if (cache / "type").read_text().strip() != "Instruction"
    ]
    vectors = [name for name in ("avx2", "avx512f", "avx512_bf16", "asimd") if name in info.split()]
    name = f"{field('model name')}, family {field('cpu family')} model {field('model')}"
    return f"{os.cpu_count()} cores of {name}; {', '.join(vectors)}; {', '.join(caches)}"


def median(values):
    return statistics.median(values)


def compare_builds(weights, sizes, rounds, tiles, before):
    """Evaluations in tiles, and by another build, in turn with those of the whole image."""
    print("| size | what | time | ÷ whole | peak | loss and gradient off by |\n|" + "---|" * 6)
    for size in sizes:
        programs = {"whole": Program(evaluate_binary(), weights, size)}
        if before:
            programs["before"] = Program(before, weights, size)
        for tile in tiles:
            if tile < max(sides(size)):
                name = f"tiles of {tile}"
                programs[name] = Program(evaluate_binary(), weights, size, "flex", tile)
        answers = {name: program.ask("evaluate") for name, program in programs.items()}
        times = {name: [] for name in programs}
        for _ in range(rounds):
            for name, program in programs.items():
                times[name].append(program.ask("evaluate")["seconds"])
        whole = median(times["whole"])
        for name, program in programs.items():
            off = [abs(answers[name][k] / answers["whole"][k] - 1) for k in ("loss", "gradient")]
            row = [
                shown(size),
                name,
                f"{median(times[name]):.3f} s (least {min(times[name]):.3f})",
                f"{median(times[name]) / whole:.2f}",
                f"{program.peak():.0f} MB",
                f"{off[0]:.0e}, {off[1]:.0e}",
            ]
            print("| " + " | ".join(row) + " |", flush=True)
            program.close()


def compare(weights, sizes, rounds, bf16, ndarray, steps):
    """Evaluations and steps: the table of times and ratios."""
    print(machine())
    print("\n| size | impasto | PyTorch fp32 | ratio | step: impasto | PyTorch | ratio ", end="")
    print("| roofline | floor of bytes | ÷ the larger | per Mpixel | new pages | peak: impasto | PyTorch | others |")
    print("|" + "---|" * 15)
    for size in sizes:
        others = {}
        ours = Program(evaluate_binary(), weights, size)
        torch = torch_program(weights, size)
        copier = torch_program(weights, "64", extra=["--copy"])
        if bf16:
            others["PyTorch bf16"] = torch_program(weights, size, "bfloat16")
        if ndarray:
            others["NdArray"] = Program(evaluate_binary(), weights, size, "ndarray")
        # Once for warming up, and to see that both compute the same.
        for question, names in {"evaluate": ["loss", "gradient"], "step": ["loss"]}.items():
            a, b = ours.ask(question), torch.ask(question)
            for name in names:
                difference = abs(a[name] / b[name] - 1)
                assert difference < 1e-3, f"{question}: {name}: {a[name]} and {b[name]}"
        ours.ask("evaluate"), copier.ask("copy")
        for _ in range(steps - 1):
            ours.ask("step"), torch.ask("step")
        questions = [(ours, "evaluate"), (torch, "evaluate"), (torch, "gemm"), (copier, "copy")]
        questions += [(ours, "step"), (torch, "step")] if steps else []
        questions += [(program, "evaluate") for program in others.values()]
        times = {question: [] for question in questions}
        pages = 0
        for _ in range(rounds):
            before = ours.faults()
            for index, (program, question) in enumerate(questions):
                times[program, question].append(program.ask(question)["seconds"])
                if index == 0:
                    pages += (ours.faults() - before) / rounds
        taken = {question: median(values) for question, values in times.items()}
        ours_s, torch_s = taken[ours, "evaluate"], taken[torch, "evaluate"]
        rate, bandwidth = 2 * 2048**3 / taken[torch, "gemm"], 2 * COPIED / taken[copier, "copy"]
        roofline = 2 * 2 * multiplications(size) / 4 / rate
        floor = least_bytes(size) / bandwidth
        step = [taken[program, "step"] for program in (ours, torch)] if steps else None
        width, height = sides(size)
        row = [
            shown(size),
            f"{ours_s:.3f} s",
            f"{torch_s:.3f} s",
            f"**{torch_s / ours_s:.2f}**",
            *([f"{step[0]:.3f} s", f"{step[1]:.3f} s", f"**{step[1] / step[0]:.2f}**"] if steps else [""] * 3),
            f"{roofline:.3f} s ({rate / 1e9:.0f} GFLOP/s)",
            f"{floor:.3f} s ({bandwidth / 1e9:.0f} GB/s)",
            f"{ours_s / max(roofline, floor):.2f}",
            f"{ours_s / (width * height) * 1e6:.2f} s",
            f"{pages:.0f}",
            f"{ours.peak():.0f} MB",
            f"{torch.peak():.0f} MB",
            ", ".join(f"{name} {taken[program, 'evaluate']:.3f} s" for name, program in others.items()),
        ]
        print("| " + " | ".join(row) + " |", flush=True)
        for program in [ours, torch, copier, *others.values()]:
            program.close()


def layers(weights, size):
    """Every convolution alone, beside its roofline."""
    ours, torch = Program(evaluate_binary(), weights, size), torch_program(weights, size)
    ours.ask("layers")
    rates = [2 * 2048**3 / torch.ask("gemm")["seconds"] for _ in range(10)]
    rows = ours.ask("layers")
    rates += [2 * 2048**3 / torch.ask("gemm")["seconds"] for _ in range(10)]
    rate = median(rates)
    print(f"\nEach layer at {shown(size)}, GEMM {rate / 1e9:.0f} GFLOP/s:\n")
    print("| layer | roofline | forward | ÷ | backward | ÷ |\n|" + "---|" * 6)
    for row in rows:
        roofline = 2 * row["multiplications"] / 4 / rate
        name = row["layer"] + (" + pool" if row["pool"] else "")
        forward, backward = row["forward"], row["backward"]
        print(
            f"| {name} | {roofline * 1e3:.2f} ms "
            f"| {forward * 1e3:.2f} ms | {forward / roofline:.2f} "
            f"| {backward * 1e3:.2f} ms | {backward / roofline:.2f} |",
            flush=True,
        )
    ours.close()
    torch.close()


def memory(weights, sizes):
    """Whole processes: `impasto stylize`, and PyTorch with the same number of L-BFGS steps."""
    print("\n| size | `impasto stylize` | PyTorch | ratio |\n|---|---|---|---|")
    steps = 3
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.png"
            assets = ROOT / "assets"
            command = [
                ROOT / "target/release/impasto", "stylize",
                assets / "scene.jpg", assets / "swirls.jpg", "-o", out, "--quiet",
                "--weights", weights, "--size", size, "--recipe", "neural-style",
                "--iterations", steps,
            ]  # fmt: skip
            # The scene is 4:3; its square has the same number of pixels.
            command[command.index("--size") + 1] = round(int(size) * (4 / 3) ** 0.5)
            command = [str(part) for part in command]
            process = subprocess.Popen(command)
            _, status, usage = os.wait4(process.pid, 0)
            assert status == 0
            ours = usage.ru_maxrss / 1e3
        torch = torch_program(weights, size)
        for _ in range(steps):
            torch.ask("step")
        peak = torch.peak()
        torch.close()
        print(f"| {shown(size)} | {ours:.0f} MB | {peak:.0f} MB | {peak / ours:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["256", "512", "724", "1024"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="steps before those that are timed; 0: none are")
    parser.add_argument("--ndarray", action="store_true", help="also impasto on NdArray")
    parser.add_argument(
        "--bf16", action="store_true", help="also PyTorch in bf16 (minutes where the CPU has none)"
    )
    parser.add_argument("--tiles", type=int, nargs="+", default=[], help="also in such tiles")
    parser.add_argument("--before", help="another build of `evaluate`")
    parser.add_argument("--no-torch", action="store_true", help="builds and tiles only")
    parser.add_argument("--only", choices=["evaluations", "layers", "memory", "bytes"])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--copy", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.sizes[0], options.dtype, options.copy)
        return
    if options.only == "bytes":
        print_bytes(options.sizes)
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "vgg19.safetensors"
        write_weights(weights)
        if options.tiles or options.before:
            compare_builds(weights, options.sizes, options.rounds, options.tiles, options.before)
        if options.no_torch:
            return
        if options.only in (None, "evaluations"):
            compare(weights, options.sizes, options.rounds, options.bf16, options.ndarray, options.steps)
        if options.only in (None, "layers"):
            layers(weights, options.sizes[0])
        if options.only in (None, "memory"):
            memory(weights, ["512", "1024"])


if __name__ == "__main__":
    main()
