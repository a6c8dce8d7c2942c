#!/usr/bin/env python3
"""What an open page costs a run.

    benches/studio.py BINARY [--rounds N] OPTION...
    benches/studio.py BINARY [--rounds N] --browser CHROMIUM [--size PIXELS] [--iterations N]

Paints assets/scene.jpg in assets/swirls.jpg, in turn.

Without a browser, with the options of `impasto stylize`: as it is (A), and with `--live` and a client that follows the
events and fetches every preview (B).

With a browser: as a job of a studio without a page (A), and as a job of a second studio whose page was opened in that
browser, headless, before the first round (C). The browser draws in software, on the same cores. The processor time
that it takes during a job is printed too.

Prints the seconds of each round, and the ratio of the others to A: of the medians, and the median of the rounds' own.
Only the standard library is needed. The program must be built with the feature `studio`.
"""

import argparse
import functools
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


def paint(binary, options, folder, way):
    """Seconds of a run of `impasto stylize`, and what else there is to say."""
    command = [binary, "stylize", ASSETS / "scene.jpg", ASSETS / "swirls.jpg", "-o", folder / "out.png", "-q", *options]
    command = [str(word) for word in command] + (["--live"] if way == "B" else [])
    seen = []
    began = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("Live at "):
            address = line.removeprefix("Live at ").strip()
            threading.Thread(target=follow, args=(address, seen), daemon=True).start()
    status = process.wait()
    seconds = time.monotonic() - began
    if status:
        sys.exit(f"exit status {status}")
    return seconds, f"{len(seen)} previews" if way == "B" else ""


def processor_seconds(session):
    """Processor time of all processes of a session so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Studio:
    """A studio with a folder of its own, and a browser that shows its page, if one is named."""

    def __init__(self, binary, folder, browser=None):
        folder.mkdir()
        command = [binary, "studio", "--port", "0", "--encoder", "builtin", "--folder", str(folder / "studio")]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        says = "The studio is at "
        address = next(line for line in self.process.stderr if line.startswith(says)).removeprefix(says).strip()
        self.host = address.removeprefix("http://").split("/")[0]
        self.pictures = [self.send("/api/pictures", (ASSETS / f"{name}.jpg").read_bytes(), "application/octet-stream")["id"]
                         for name in ["scene", "swirls"]]
        self.browser = None
        if browser:
            headless = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
                        "--window-size=1280,900", f"--user-data-dir={folder / 'profile'}", address]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            self.browser = subprocess.Popen(headless, start_new_session=True, **quiet)
            time.sleep(8)

    def request(self, method, path, body=None, kind=None):
        connection = http.client.HTTPConnection(self.host)
        headers = {"x-impasto": "1"} | ({"content-type": kind} if kind else {})
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, text

    def send(self, path, body, kind="application/json"):
        status, text = self.request("POST", path, body, kind)
        if status >= 300:
            sys.exit(f"{path}: {status} {text.decode()}")
        return json.loads(text or "null")

    def paint(self, options):
        """Seconds of a job, and the processor time that the browser takes meanwhile."""
        content, style = self.pictures
        settings = {"content": content, "styles": [{"picture": style, "weight": 1.0}], "recipe": "impasto",
                    "encoder": "builtin", "options": options}
        spent = processor_seconds(self.browser.pid) if self.browser else 0
        began = time.monotonic()
        job = self.send("/api/jobs", json.dumps(settings))["id"]
        while self.request("GET", f"/api/jobs/{job}/result")[0] != 200:
            time.sleep(0.05)
        seconds = time.monotonic() - began
        spent = processor_seconds(self.browser.pid) - spent if self.browser else 0
        # A page shows the next job by itself only where it shows none.
        self.send(f"/api/jobs/{job}/remove", "null")
        if not self.browser:
            return seconds, ""
        return seconds, f"browser {spent:.2f} s of processor time, {spent / seconds:.3f} of a core"

    def close(self):
        if self.browser:
            os.killpg(self.browser.pid, signal.SIGTERM)
            self.browser.wait()
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def compare(ways, rounds):
    """Does each way in turn, and prints what it takes."""
    times = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            seconds, more = run()
            times[way].append(seconds)
            print(f"{way} {seconds:.2f} s" + (f", {more}" if more else ""), flush=True)
    base = times.pop("A")
    print(f"A: median {statistics.median(base):.2f} s")
    for way, taken in times.items():
        ratio = statistics.median(taken) / statistics.median(base)
        own = sorted(one / other for one, other in zip(taken, base))
        print(f"{way}: median {statistics.median(taken):.2f} s, {ratio:.3f} of A; the rounds' ratios: median "
              f"{statistics.median(own):.3f}, {own[0]:.3f} to {own[-1]:.3f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--browser")
    arguments, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if not arguments.browser:
            ways = {way: functools.partial(paint, arguments.binary, options, folder, way) for way in "AB"}
            return compare(ways, arguments.rounds)
        parser.add_argument("--size", type=int, default=512)
        parser.add_argument("--iterations", type=int)
        chosen = parser.parse_args()
        settings = {"size": chosen.size} | ({"iterations": chosen.iterations} if chosen.iterations else {})
        studios = []
        try:
            studios.append(Studio(arguments.binary, folder / "plain"))
            studios.append(Studio(arguments.binary, folder / "open", arguments.browser))
            compare({"A": lambda: studios[0].paint(settings), "C": lambda: studios[1].paint(settings)}, arguments.rounds)
        finally:
            for studio in studios:
                studio.close()


if __name__ == "__main__":
    main()
