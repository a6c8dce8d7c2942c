#!/usr/bin/env python3
"""What an open page costs a run.

    benches/studio.py BINARY [--rounds N] [--browser CHROMIUM] OPTION...

Paints assets/scene.jpg in assets/swirls.jpg with the options of `impasto stylize`, in turn: as it is (A); with `--live`
and a page that follows its events and fetches every preview (B); and, where a browser is named, with `--live` and the
page open in it, headless, on the same machine (C). Prints the seconds of each round and the ratios of the medians to
A. Only the standard library is needed. The program must be built with the feature `studio`.
"""

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"


def follow(address, seen):
    """What the page does: listens to events, and fetches each preview when the one before has come."""
    host = address.removeprefix("http://").rstrip("/")
    events = http.client.HTTPConnection(host)
    events.request("GET", "/api/events")
    latest = 0
    try:
        for line in events.getresponse():
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            if event["type"] == "step" and event["preview"] > latest:
                latest = event["preview"]
                pictures = http.client.HTTPConnection(host)
                pictures.request("GET", f"/api/jobs/{event['id']}/preview?v={latest}")
                seen.append(len(pictures.getresponse().read()))
                pictures.close()
    except (OSError, http.client.HTTPException):
        pass  # The run has ended.


def paint(binary, options, folder, way, browser):
    """Seconds of a run, and how many previews were fetched."""
    command = [binary, "stylize", ASSETS / "scene.jpg", ASSETS / "swirls.jpg", "-o", folder / "out.png", "-q", *options]
    command = [str(word) for word in command] + (["--live"] if way != "A" else [])
    seen, open_browser = [], None
    began = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if not line.startswith("Live at "):
            continue
        address = line.removeprefix("Live at ").strip()
        if way == "B":
            threading.Thread(target=follow, args=(address, seen), daemon=True).start()
        if way == "C":
            profile = f"--user-data-dir={folder / 'profile'}"
            headless = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", profile]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            open_browser = subprocess.Popen([*headless, address], start_new_session=True, **quiet)
    status = process.wait()
    seconds = time.monotonic() - began
    if open_browser:
        os.killpg(open_browser.pid, signal.SIGTERM)
        open_browser.wait()
    if status:
        sys.exit(f"exit status {status}")
    return seconds, len(seen)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--browser")
    arguments, options = parser.parse_known_args()
    ways = ["A", "B"] + (["C"] if arguments.browser else [])
    times = {way: [] for way in ways}
    for _ in range(arguments.rounds):
        for way in ways:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                seconds, previews = paint(arguments.binary, options, Path(folder), way, arguments.browser)
            times[way].append(seconds)
            print(f"{way} {seconds:.2f} s" + (f", {previews} previews" if way == "B" else ""), flush=True)
    base = statistics.median(times["A"])
    for way in ways:
        median = statistics.median(times[way])
        print(f"{way}: median {median:.2f} s, {median / base:.3f} of A")


if __name__ == "__main__":
    main()
