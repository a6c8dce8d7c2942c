"""Optimisers on the loss of the recipe impasto: L-BFGS and Adam, on pixels and on a Laplacian pyramid.

    cargo build --release --features cli --bin impasto
    python benches/optimizers.py                              # the built-in encoder
    python benches/optimizers.py --weights vgg19.safetensors --size 512
    python benches/optimizers.py --coarsest 64                # coarse to fine, as the recipe has it

Runs `impasto stylize` once for each optimiser, with recipes in JSON that differ in nothing else, and
reads their logs. With a single scale, the default, all have the same start and the same targets, so
that all losses are of one function; that the first losses agree is checked. Coarse to fine, each has
its own start and targets at the last scale: what the others painted is part of the search.

Writes a table to standard output and, for a single scale, a diagram of loss against time to
docs/gallery/optimizers.svg. Time begins with the first evaluation of the last scale.
"""

import argparse
import copy
import json
import math
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = [0, 5, 10, 20, 40, 60]
LEVELS = 8

# Colours that most of the colour-blind tell apart (Okabe and Ito 2008), dashed on the pyramid.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"


def variants(recipe):
    """Name, colour, whether dashed, recipe."""

    def with_(pyramid, optimizer):
        return {**copy.deepcopy(recipe), "pyramid": pyramid, "optimizer": optimizer}

    def adam(rate, beta2):
        return {"adam": {"learning_rate": rate, "beta2": beta2}}

    lbfgs = recipe["optimizer"]
    assert "lbfgs" in lbfgs and recipe["range"] == 1.0, "not the recipe that this was written for"
    return [
        ("L-BFGS, pixels", BLUE, False, with_(0, lbfgs)),
        ("L-BFGS, pyramid", BLUE, True, with_(LEVELS, lbfgs)),
        ("Adam 0.02, pixels", ORANGE, False, with_(0, adam(0.02, 0.99))),
        ("Adam 0.002, pyramid (as NNST)", GREEN, True, with_(LEVELS, adam(0.002, 0.999))),
        ("Adam 0.005, pyramid", RED, True, with_(LEVELS, adam(0.005, 0.999))),
    ]


def run(options, folder, recipe):
    """The log's lines of the last scale."""
    file, log = folder / "recipe.json", folder / "log.jsonl"
    file.write_text(json.dumps(recipe))
    command = [
        options.program, "stylize", options.content, options.style, "-o", folder / "out.png",
        "--recipe", file, "--log", log, "--quiet",
    ]  # fmt: skip
    command += ["--weights", options.weights] if options.weights else ["--encoder", "builtin"]
    subprocess.run([str(part) for part in command], check=True)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line["scale"] == lines[-1]["scale"]]


def measure(options):
    """Of each variant: name, colour, whether dashed, losses and seconds at its steps, from 0."""
    command = [str(options.program), "recipes", "impasto", "--json"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    recipe = json.loads(answer.stdout)
    recipe["size"] = options.size
    recipe["coarsest"] = options.coarsest or options.size
    # A line has the loss before its step.
    recipe["iterations"] = STEPS[-1] + 1
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name, color, dashed, variant in variants(recipe):
            lines = run(options, Path(folder), variant)
            seconds = [line["seconds"] - lines[0]["seconds"] for line in lines]
            results.append((name, color, dashed, [line["total"] for line in lines], seconds))
    return results


def table(results):
    steps = " | ".join(f"{step} steps" for step in STEPS)
    print(f"| optimiser | {steps} | ms per step |\n|" + "---|" * (len(STEPS) + 2))
    for name, _, _, losses, seconds in results:
        cells = [f"{losses[step]:.4g}" if step < len(losses) else "ended" for step in STEPS]
        each = seconds[-1] / (len(seconds) - 1) * 1e3
        print(f"| {name} | {' | '.join(cells)} | {each:.0f} |")


# --- the diagram ---------------------------------------------------------------------------

WIDTH, HEIGHT = 800, 500
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 20, 60


def svg(results, title):
    """Loss, logarithmic, against seconds; on white, so that it is read on dark pages too."""
    end = max(seconds[-1] for *_, seconds in results)
    values = [loss for *_, losses, _ in results for loss in losses if loss]
    low, high = min(values) * 0.9, max(values) * 1.1

    def x(second):
        return LEFT + second / end * (WIDTH - LEFT - RIGHT)

    def y(loss):
        share = math.log(loss / low) / math.log(high / low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def text(left, top, words, more=""):
        return f'<text x="{left:.1f}" y="{top:.1f}" {more}>{words}</text>'

    def line(x1, y1, x2, y2, more):
        return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>'

    grid, frame = 'stroke="#ddd"', 'stroke="#222"'
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="14" fill="#222">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    unit = 10 ** math.floor(math.log10(end))
    step = next(f * unit for f in (0.1, 0.2, 0.5, 1, 2) if end / (f * unit) <= 10)
    for i in range(int(end / step) + 1):
        at = x(i * step)
        parts.append(line(at, TOP, at, bottom, grid))
        parts.append(text(at, bottom + 20, f"{i * step:g}", 'text-anchor="middle"'))
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low > 5 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    for loss in (factor * 10.0**decade for decade in decades for factor in factors):
        if low <= loss <= high:
            parts.append(line(LEFT, y(loss), right, y(loss), grid))
            parts.append(text(LEFT - 8, y(loss) + 5, f"{loss:g}", 'text-anchor="end"'))
    parts.append(line(LEFT, bottom, right, bottom, frame))
    parts.append(line(LEFT, TOP, LEFT, bottom, frame))
    middle = (TOP + bottom) / 2
    parts.append(text((LEFT + right) / 2, HEIGHT - 16, "seconds", 'text-anchor="middle"'))
    turned = f'text-anchor="middle" transform="rotate(-90 20 {middle:.1f})"'
    parts.append(text(20, middle, "loss", turned))
    for index, (name, color, dashed, losses, seconds) in enumerate(results):
        stroke = f'stroke="{color}" stroke-width="2"' + (' stroke-dasharray="6 3"' if dashed else "")
        points = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in zip(seconds, losses) if v)
        parts.append(f'<polyline points="{points}" fill="none" {stroke}/>')
        legend = TOP + 20 + 22 * index
        parts.append(line(right - 280, legend, right - 240, legend, stroke))
        parts.append(text(right - 232, legend + 5, name))
    return "\n".join([*parts, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/impasto")
    parser.add_argument("--content", type=Path, default=ROOT / "assets/scene.jpg")
    parser.add_argument("--style", type=Path, default=ROOT / "assets/swirls.jpg")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--coarsest", type=int, help="coarse to fine from this size; no diagram")
    parser.add_argument("--weights", type=Path, help="VGG19's; without, the built-in encoder")
    options = parser.parse_args()
    results = measure(options)
    if not options.coarsest:
        starts = [losses[0] for _, _, _, losses, _ in results]
        assert max(starts) / min(starts) - 1 < 1e-3, f"unlike starts: {starts}"
        title = f"Optimisers at {options.size} pixels"
        (ROOT / "docs/gallery/optimizers.svg").write_text(svg(results, title))
    table(results)


if __name__ == "__main__":
    main()
