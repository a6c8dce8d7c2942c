"""impasto beside PyTorch: the same weights, image and losses, the same cores, in turn.

    cargo build --release --features cli,ndarray --bin impasto
    cargo build --release --package impasto-tools --features ndarray --bin evaluate
    pip install torch safetensors numpy
    python benches/compare.py                       # tables on standard output
    python benches/compare.py --sizes 256 --rounds 5
    python benches/compare.py --tiles 512 256 --before OLD/evaluate --no-torch   # impasto alone

An evaluation is VGG19 to relu5_1, five Gram matrices (divided by the positions, mean squared
error), the content at relu4_2, and the gradient of their sum with respect to the image. Weights are
random (He), images a fixed pattern, so that nothing is downloaded. Both programs stay alive and are
asked in turn, A B A B; times are medians. That both compute the same is checked by the loss and the
norm of the gradient. "GEMM" is a product of two 2048 x 2048 matrices in PyTorch, measured in the
same rounds: the roofline of an evaluation is a quarter of the multiplications of its direct
convolutions at that rate, as Winograd's F(4x4, 3x3) needs them.

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

from vgg19 import CONVOLUTIONS, INDICES, Losses, Vgg19

ROOT = Path(__file__).resolve().parent.parent


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


def worker(weights, size, dtype):
    """Answers `evaluate`, `step` (of L-BFGS, history 20) and `gemm`, a line each."""
    import numpy
    import torch

    network = Vgg19(weights, getattr(torch, dtype))

    def picture(offset):
        i = numpy.arange(3 * size * size, dtype=numpy.uint32) + numpy.uint32(offset)
        values = (i * numpy.uint32(2654435761) >> 8).astype(numpy.float32) / 16777216.0
        return torch.from_numpy(values.reshape(1, 3, size, size))

    losses = Losses(network, picture(1), picture(1))
    image = picture(7).requires_grad_()
    optimizer = torch.optim.LBFGS([image], lr=1, max_iter=1, history_size=20)

    def loss():
        return sum(losses(image))

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    square = torch.randn(2048, 2048)
    for line in sys.stdin:
        start, answer = time.perf_counter(), {}
        match line.strip():
            case "evaluate":
                value = loss()
                (gradient,) = torch.autograd.grad(value, image)
                answer = {"loss": value.item(), "gradient": gradient.norm().item()}
            case "step":
                optimizer.step(closure)
            case "gemm":
                torch.mm(square, square)
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


def torch_program(weights, size, dtype="float32"):
    return Program(
        sys.executable, __file__, "--worker", weights, "--sizes", size, "--dtype", dtype
    )


def evaluate_binary():
    return ROOT / "target/release/evaluate"


def multiplications(size):
    channels, side, total = 3, size, 0
    for width in CONVOLUTIONS:
        if width == "M":
            side //= 2
        else:
            total += 9 * channels * width * side * side
            channels = width
    return total


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
            if tile < size:
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
                f"{size}²",
                name,
                f"{median(times[name]):.3f} s (least {min(times[name]):.3f})",
                f"{median(times[name]) / whole:.2f}",
                f"{program.peak():.0f} MB",
                f"{off[0]:.0e}, {off[1]:.0e}",
            ]
            print("| " + " | ".join(row) + " |", flush=True)
            program.close()


def compare(weights, sizes, rounds, bf16, ndarray):
    """Evaluations: the table of times and ratios."""
    others = {}
    print("| size | impasto | PyTorch fp32 | ratio | roofline | impasto ÷ roofline ", end="")
    print("| per Mpixel | new pages | peak: impasto | PyTorch | others |")
    print("|" + "---|" * 11)
    for size in sizes:
        ours = Program(evaluate_binary(), weights, size)
        torch = torch_program(weights, size)
        if bf16:
            others["PyTorch bf16"] = torch_program(weights, size, "bfloat16")
        if ndarray:
            others["NdArray"] = Program(evaluate_binary(), weights, size, "ndarray")
        # Once for warming up, and to see that both compute the same.
        a, b = ours.ask("evaluate"), torch.ask("evaluate")
        for name in ["loss", "gradient"]:
            difference = abs(a[name] / b[name] - 1)
            assert difference < 1e-3, f"{name}: {a[name]} and {b[name]}"
        ours.ask("evaluate")
        times = {name: [] for name in ["ours", "torch", "gemm", *others]}
        pages = ours.faults()
        for _ in range(rounds):
            times["ours"].append(ours.ask("evaluate")["seconds"])
            times["torch"].append(torch.ask("evaluate")["seconds"])
            times["gemm"].append(torch.ask("gemm")["seconds"])
            for name, program in others.items():
                times[name].append(program.ask("evaluate")["seconds"])
        pages = (ours.faults() - pages) / rounds
        ours_s, torch_s = median(times["ours"]), median(times["torch"])
        rate = 2 * 2048**3 / median(times["gemm"])
        roofline = 2 * 2 * multiplications(size) / 4 / rate
        row = [
            f"{size}²",
            f"{ours_s:.3f} s",
            f"{torch_s:.3f} s",
            f"{torch_s / ours_s:.2f}",
            f"{roofline:.3f} s ({rate / 1e9:.0f} GFLOP/s)",
            f"{ours_s / roofline:.2f}",
            f"{ours_s / size**2 * 1e6:.2f} s",
            f"{pages:.0f}",
            f"{ours.peak():.0f} MB",
            f"{torch.peak():.0f} MB",
            ", ".join(f"{name} {median(times[name]):.3f} s" for name in others),
        ]
        print("| " + " | ".join(row) + " |", flush=True)
        for program in [ours, torch, *others.values()]:
            program.close()


def layers(weights, size):
    """Every convolution alone, beside its roofline."""
    ours, torch = Program(evaluate_binary(), weights, size), torch_program(weights, size)
    ours.ask("layers")
    rates = [2 * 2048**3 / torch.ask("gemm")["seconds"] for _ in range(10)]
    rows = ours.ask("layers")
    rates += [2 * 2048**3 / torch.ask("gemm")["seconds"] for _ in range(10)]
    rate = median(rates)
    print(f"\nEach layer at {size}², GEMM {rate / 1e9:.0f} GFLOP/s:\n")
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
            command[command.index("--size") + 1] = round(size * (4 / 3) ** 0.5)
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
        print(f"| {size}² | {ours:.0f} MB | {peak:.0f} MB | {peak / ours:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 724, 1024])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--ndarray", action="store_true", help="also impasto on NdArray")
    parser.add_argument(
        "--bf16", action="store_true", help="also PyTorch in bf16 (minutes where the CPU has none)"
    )
    parser.add_argument("--tiles", type=int, nargs="+", default=[], help="also in such tiles")
    parser.add_argument("--before", help="another build of `evaluate`")
    parser.add_argument("--no-torch", action="store_true", help="builds and tiles only")
    parser.add_argument("--only", choices=["evaluations", "layers", "memory"])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.sizes[0], options.dtype)
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "vgg19.safetensors"
        write_weights(weights)
        if options.tiles or options.before:
            compare_builds(weights, options.sizes, options.rounds, options.tiles, options.before)
        if options.no_torch:
            return
        if options.only in (None, "evaluations"):
            compare(weights, options.sizes, options.rounds, options.bf16, options.ndarray)
        if options.only in (None, "layers"):
            layers(weights, options.sizes[0])
        if options.only in (None, "memory"):
            memory(weights, [512, 1024])


if __name__ == "__main__":
    main()
