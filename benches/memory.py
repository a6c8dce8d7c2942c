#!/usr/bin/env python3
"""What runs take beside what `--dry-run` foretold: memory and time.

    benches/memory.py BINARY [--weights FILE] RUN...

A RUN is a quoted list of options of `impasto stylize`, such as '--size 2048 --memory 1GB --iterations 2'; content and
style are assets/scene.jpg and assets/swirls.jpg, enlarged. Prints a row of a table for each: how the last scale is
computed, peak resident memory and seconds of the whole process, each with its ratio to what was foretold, and seconds
of an evaluation (the median, of the runs that have several). Only the standard library is needed.
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

ASSETS = Path(__file__).resolve().parent.parent / "assets"


def run(command):
    """Seconds and peak bytes of a process."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"exit status {process.returncode}: {' '.join(command)}")
    return time.monotonic() - began, usage.ru_maxrss * 1024


def row(binary, weights, options, folder):
    out, log = folder / "out.png", folder / "log.jsonl"
    log.unlink(missing_ok=True)
    command = [binary, "stylize", ASSETS / "scene.jpg", ASSETS / "swirls.jpg", "-o", out, "-q"]
    command = [str(word) for word in command] + options.split()
    if weights:
        command += ["--weights", weights]
    plan = subprocess.run(command + ["--dry-run", "--json"], capture_output=True, text=True)
    if plan.returncode:
        return f"| `{options}` | {plan.stderr.strip()} |"
    plan = json.loads(plan.stdout)
    seconds, peak = run(command + ["--log", str(log)])
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    last = plan["scales"][-1]
    times = [line["seconds"] for line in lines if line["width"] == last["width"]]
    between = [later - earlier for earlier, later in zip(times, times[1:])]
    evaluation = f"{statistics.median(between):.2f} s" if between else ""
    how = last["computation"]
    way = f"{last['tiles']} tiles" if last["tiles"] > 1 else "segments" if how["segment_values"] else "whole"
    if how["history"] is not None:
        way += f", history {how['history']}"
    memory, foretold = plan["memory"], plan["seconds"]
    return (
        f"| `{options}` | {last['width']}×{last['height']} | {way} "
        f"| {peak / 1e9:.2f} GB ({memory / peak:.2f}) | {seconds:.0f} s ({foretold / seconds:.2f}) | {evaluation} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--weights")
    parser.add_argument("runs", nargs="+")
    args = parser.parse_args()
    print("| options | pixels | computed | peak memory (foretold ÷ taken) | time (foretold ÷ taken) | an evaluation |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for options in args.runs:
            print(row(args.binary, args.weights, options, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
