"""What it costs to share an evaluation among ranks of one machine: seconds of an evaluation in tiles by one
process, by two threads with half the cores each, and by 2 and 4 processes of Open MPI, in turn.

    python3 benches/ranks.py BINARY [--size 1024] [--tile 256] [--rounds 3] [options of stylize]

BINARY is impasto built with the feature `mpi`. Prints each round and the medians of the ratios."""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

STEPS = 6
ASSETS = Path(__file__).resolve().parent.parent / "assets"


def evaluation(launcher, binary, options):
    """Median seconds from one evaluation to the next."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        pictures = [ASSETS / "scene.jpg", ASSETS / "swirls.jpg", "-o", Path(folder) / "out.png"]
        command = [*launcher, binary, "stylize", *pictures, "--quiet", "--log", log, *options]
        subprocess.run([str(word) for word in command], check=True, stderr=subprocess.DEVNULL)
        times = [json.loads(line)["seconds"] for line in log.read_text().splitlines()]
    return statistics.median(b - a for a, b in zip(times, times[1:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments, more = parser.parse_known_args()
    options = ["--recipe", "neural-style", "--size", arguments.size, "--tile", arguments.tile]
    options += ["--iterations", STEPS, *more]
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np"]
    binary = arguments.binary.resolve()
    ratios = []
    for _ in range(arguments.rounds):
        alone = evaluation([], binary, options)
        others = [evaluation([], binary, [*options, "--device", "cpu,cpu"])]
        others += [evaluation([*mpirun, ranks], binary, options) for ranks in (2, 4)]
        ratios.append([seconds / alone for seconds in others])
        print(f"{alone:.2f} s; two threads, 2 and 4 processes:", *(f"{r:.3f}" for r in ratios[-1]), flush=True)
    print("medians:", *(f"{statistics.median(column):.3f}" for column in zip(*ratios)))


if __name__ == "__main__":
    main()
