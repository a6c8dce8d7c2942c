"""PyTorch's side of gpu.sh, and what it needs besides: pictures, measuring a process, the report.

    python benches/gpu.py bench --weights vgg19.safetensors --pictures FOLDER --sizes 512 1024 \\
        --precision tf32 --compile                     # FOLDER: of `gpu.py pictures`
    python benches/gpu.py stylize --weights vgg19.safetensors --pictures FOLDER --output out.png

An evaluation is that of `impasto bench`: the loss of the recipe neural-style but for its total
variation, and its gradient with respect to the image, which starts as the content picture. With F the
features of a layer, C channels, H·W positions:

    5 · mean((F - content)²) of relu4_2
    + 100 · mean((G - style)²), G = F·Fᵀ / (C·H·W), of relu1_1, relu2_1, relu3_1, relu4_1, relu5_1

A step is one of L-BFGS (history 100, learning rate 1) with an evaluation in it. Layers are channels_last;
cuDNN picks its algorithms by trying them (`torch.backends.cudnn.benchmark`). bf16: weights and layers
in bf16, losses and image in fp32.

`stylize` is impasto's recipe neural-style from the content picture.
"""

import argparse
import gc
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path


def print_json(value):
    print(json.dumps(value), flush=True)


def since_process_start():
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def picture_path(folder, name, size):
    return Path(folder) / f"{name}-{size}.png"


def make_pictures(options):
    """Both pictures at every size, cut to a square: what both programs read."""
    from PIL import Image, ImageOps

    for name in ("content", "style"):
        picture = Image.open(getattr(options, name)).convert("RGB")
        for size in options.sizes:
            square = ImageOps.fit(picture, (size, size), Image.LANCZOS)
            square.save(picture_path(options.pictures, name, size))


# --- PyTorch -----------------------------------------------------------------------------


HISTORY = 100


class Torch:
    """The network on a device, in a precision."""

    def __init__(self, options):
        import torch

        from vgg19 import Vgg19

        torch.set_float32_matmul_precision("highest" if options.precision == "f32" else "high")
        torch.backends.cudnn.allow_tf32 = options.precision != "f32"
        torch.backends.cudnn.benchmark = True
        self.torch, self.pictures = torch, options.pictures
        self.device = torch.device(options.device)
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        self.network = Vgg19(options.weights, dtype, self.device, torch.channels_last)
        self.synchronize()

    def synchronize(self):
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def picture(self, name, size):
        import numpy
        from PIL import Image

        path = picture_path(self.pictures, name, size)
        pixels = numpy.asarray(Image.open(path), numpy.float32).transpose(2, 0, 1)
        return self.torch.from_numpy(pixels / 255).contiguous().unsqueeze(0).to(self.device)

    def save(self, image, path):
        from PIL import Image

        pixels = image.detach()[0].clamp(0, 1).mul(255).round().byte()
        Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()).save(path)

    def losses(self, size):
        """The content picture, and the loss of an image."""
        from vgg19 import Losses

        content, style = self.picture("content", size), self.picture("style", size)
        losses = Losses(self.network, content, style, per_channel=True)

        def loss(image):
            content, style = losses(image)
            return 5 * content + 100 * style

        return content, loss

    def lbfgs(self, variable):
        return self.torch.optim.LBFGS(
            [variable],
            lr=1,
            max_iter=1,
            history_size=HISTORY,
            tolerance_grad=0,
            tolerance_change=0,
        )

    def memory(self):
        """Peaks since the last `reset_memory`, in bytes; null without a GPU."""
        cuda = self.device.type == "cuda"
        return {
            "max_memory_allocated": self.torch.cuda.max_memory_allocated() if cuda else None,
            "max_memory_reserved": self.torch.cuda.max_memory_reserved() if cuda else None,
        }

    def reset_memory(self):
        gc.collect()
        if self.device.type == "cuda":
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats()

    def describe(self):
        cuda = self.device.type == "cuda"
        return {
            "device": str(self.device),
            "device_name": self.torch.cuda.get_device_name() if cuda else platform.machine(),
        }


def bench(options):
    torch = Torch(options)
    load_s = since_process_start()
    for size in options.sizes:
        torch.reset_memory()
        row = {"width": size, "height": size, "began": time.time(), "load_s": load_s}
        try:
            row |= bench_size(torch, size, options)
        except Exception as error:  # out of memory, say; the other sizes go on
            row["error"] = f"{type(error).__name__}: {error}"[:2000]
        print_json(row | torch.memory() | {"ended": time.time()} | torch.describe())


def bench_size(torch, size, options):
    def timed(function):
        start = time.perf_counter()
        result = function()
        torch.synchronize()
        return time.perf_counter() - start, result

    def repeat(function):
        """Seconds of each repeat; fewer, at least three, if they take long."""
        seconds = []
        while len(seconds) < options.repeats and (len(seconds) < 3 or sum(seconds) < options.patience):
            seconds.append(timed(function)[0])
        return seconds

    targets_s, (content, loss) = timed(lambda: torch.losses(size))
    image = content.clone().requires_grad_()
    if options.compile:
        torch.torch._dynamo.reset()
        loss = torch.torch.compile(loss, dynamic=False)

    def evaluate():
        value = loss(image)
        (gradient,) = torch.torch.autograd.grad(value, image)
        return value.item(), gradient

    def closure():
        optimizer.zero_grad()
        value = loss(image)
        value.backward()
        return value

    evaluation_s, (value, gradient) = timed(evaluate)
    found = {
        # As impasto has it: targets and first evaluation.
        "first_s": targets_s + evaluation_s,
        "targets_s": targets_s,
        "from_start_s": since_process_start(),
        "loss": value,
        "gradient": gradient.float().norm().item(),
    }
    del gradient
    seconds = repeat(evaluate)
    optimizer = torch.lbfgs(image)
    # Without a history.
    optimizer.step(closure)
    steps = repeat(lambda: optimizer.step(closure))
    return found | {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "repeats": len(seconds),
        "step_median_s": statistics.median(steps),
    }


def stylize(options):
    """impasto's recipe neural-style; the variables are pixels from 0 to 255."""
    torch = Torch(options)
    size = options.sizes[0]
    start = time.perf_counter()
    content, loss = torch.losses(size)
    pixels = (content * 255).clone().requires_grad_()
    optimizer = torch.lbfgs(pixels)

    def closure():
        optimizer.zero_grad()
        down, right = pixels.diff(dim=2), pixels.diff(dim=3)
        value = loss(pixels / 255) + 1e-3 * (down.abs().sum() + right.abs().sum())
        value.backward()
        return value

    values = []
    for _ in range(options.iterations):
        values.append(optimizer.step(closure).item())
    seconds = time.perf_counter() - start
    torch.save(pixels / 255, options.output)
    print_json(
        {
            "size": size,
            "iterations": options.iterations,
            "first_total": values[0],
            "last_total": values[-1],
            "seconds": seconds,
            **torch.memory(),
            **torch.describe(),
        }
    )


# --- one process, measured ---------------------------------------------------------------


def used_memory(gpu):
    """A function that gives the bytes in use on a GPU, by NVML or else nvidia-smi; None without one."""
    import ctypes

    class Memory(ctypes.Structure):
        _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]

    for name in ("libnvidia-ml.so.1", "/usr/local/nvidia/lib64/libnvidia-ml.so.1"):
        try:
            nvml = ctypes.CDLL(name)
        except OSError:
            continue
        handle, memory = ctypes.c_void_p(), Memory()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByIndex_v2(gpu, ctypes.byref(handle)):
            continue

        def read():
            failed = nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
            return None if failed else memory.used

        if read() is not None:
            return read

    command = ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.used"]
    command.append("--format=csv,noheader,nounits")

    def ask():
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
        return int(found.stdout) << 20

    try:
        ask()
        return ask
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def read_json(path):
    """The values in a file: one, or one on each line; [] if there is none."""
    try:
        text = Path(path).read_text()
    except OSError:
        return []
    try:
        return [json.loads(text)]
    except ValueError:
        pass
    values = []
    for line in text.splitlines():
        try:
            values.append(json.loads(line))
        except ValueError:
            pass
    return values


def watch(options):
    """Runs a command with caches of its own; writes what it took and found to parts/NAME.json."""
    caches = Path(options.caches).resolve()
    caches.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "XDG_CACHE_HOME": str(caches / "xdg"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "CUDA_CACHE_PATH": str(caches / "cuda"),
    }
    parts = Path(options.parts)
    results, log = parts / f"{options.name}.results", parts / f"{options.name}.log"
    read = used_memory(options.gpu)
    samples, ended = [], threading.Event()

    def sample():
        while not ended.is_set():
            try:
                used = read()
            except (OSError, ValueError, subprocess.SubprocessError):
                used = None
            if used is not None:
                samples.append((time.time(), used))
            ended.wait(0.05)

    before = read() if read else None
    if read:
        threading.Thread(target=sample, daemon=True).start()
    command = [part.replace("RESULTS", str(results)) for part in options.command]
    command = ["timeout", "-k", "5", str(options.limit), *command]
    start = time.perf_counter()
    with open(log, "wb") as output, open(results, "wb") as printed:
        process = subprocess.Popen(
            command,
            cwd=caches,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output if "RESULTS" in " ".join(options.command) else printed,
            stderr=output,
        )
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        status = process.wait()
    seconds = time.perf_counter() - start
    ended.set()

    def peak(began, ended):
        inside = [used for moment, used in samples if began <= moment <= ended]
        return max(inside) - before if inside and before is not None else None

    found = read_json(results)
    for row in found:
        if isinstance(row, dict) and "began" in row:
            row["device_peak_bytes"] = peak(row.pop("began"), row.pop("ended"))
    part = {
        "command": command,
        "status": status,
        "timed_out": seconds >= options.limit,
        "seconds": seconds,
        "resident_peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "device_peak_bytes": peak(0, float("inf")),
        "results": found,
    }
    if status:
        part["message"] = log.read_text(errors="replace")[-2000:].strip()
    (parts / f"{options.name}.json").write_text(json.dumps(part))
    sys.exit(status if status >= 0 else 128 - status)


# --- the report --------------------------------------------------------------------------


def machine(_):
    """What this runs on; importing PyTorch also brings its files into memory before anything is timed."""
    cpu = Path("/proc/cpuinfo").read_text()
    models = [line.split(":", 1)[1].strip() for line in cpu.splitlines() if "model name" in line]
    found = {
        "system": platform.platform(),
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    query = "name,driver_version,memory.total,clocks.max.sm,power.limit"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
        found["gpus"] = [
            dict(zip(query.split(","), line.split(", "))) for line in listed.splitlines()
        ]
    except (OSError, subprocess.SubprocessError):
        found["gpus"] = []
    try:
        import torch

        found["torch"], found["torch_cuda"] = torch.__version__, torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version()
        found["torch_sees_gpu"] = torch.cuda.is_available()
    except ImportError as error:
        found["torch"] = None
        print(error, file=sys.stderr)
    print_json(found)


class Report:
    """All parts so far, and what follows from them."""

    def __init__(self, folder):
        files = sorted(Path(folder).glob("*.json"), key=lambda path: path.stat().st_mtime)
        self.parts = {path.stem: json.loads(path.read_text()) for path in files}

    def result(self, name):
        results = self.parts.get(name, {}).get("results", [])
        return results[0] if results and isinstance(results[0], dict) else {}

    def named(self, *programs):
        """(program, precision, what, part) of the parts `PROGRAM-PRECISION[-WHAT]`, as gpu.sh names them."""
        for name, part in self.parts.items():
            program, precision, what, *_ = [*name.split("-"), "", ""]
            if program in programs:
                yield program, precision, what, part

    def rows(self):
        """By precision, size and program: what was measured."""
        rows = {}
        for program, precision, what, part in self.named("impasto", "eager", "compile"):
            if what in ("cold", "warm"):
                continue
            for row in times(program, part):
                if program == "impasto":
                    row = row | memory_of(part)
                rows[precision, row.get("width"), program] = row
        return rows

    def evaluations(self):
        rows, table = self.rows(), []
        for precision, size in sorted({key[:2] for key in rows}, key=lambda key: key[::-1]):
            entry = {"precision": precision, "size": size}
            for program in ("impasto", "eager", "compile"):
                entry[program] = rows.get((precision, size, program))
            ours = entry["impasto"]
            for program in ("eager", "compile"):
                other = entry[program]
                if get(ours, "median_s") and get(other, "median_s"):
                    entry[f"impasto_to_{program}"] = {
                        name: ratio(ours.get(name), other.get(name))
                        for name in ("median_s", "step_median_s", "first_s", "device_peak_bytes")
                    }
                    entry[f"loss_differs_from_{program}"] = difference(ours, other, "loss")
            table.append(entry)
        return table

    def first_iterations(self):
        """Whole processes of a single repeat, with empty caches and again with those it left."""
        found = {}
        for program, precision, what, part in self.named("impasto", "eager", "compile"):
            if what not in ("cold", "warm"):
                continue
            entry = {"precision": precision, "status": part["status"]}
            if part["status"] == 0:
                entry["process_s"] = part["seconds"]
            for row in times(program, part):
                keys = ("width", "load_s", "targets_s", "first_s", "from_start_s")
                entry |= {key: row[key] for key in keys if key in row}
            found.setdefault(program, {})[what] = entry
        return found

    def stylizations(self):
        found = {}
        if part := self.parts.get("stylize-impasto"):
            log = [row for row in part["results"] if "total" in row]
            found["impasto"] = {"process_s": part["seconds"]} | memory_of(part)
            if log:
                found["impasto"] |= {
                    "size": log[0]["width"],
                    "iterations": log[-1]["evaluation"],
                    "first_total": log[0]["total"],
                    "last_total": log[-1]["total"],
                    "seconds": log[-1]["seconds"],
                }
        if part := self.parts.get("stylize-pytorch"):
            found["pytorch"] = {"process_s": part["seconds"]} | memory_of(part)
            found["pytorch"] |= self.result("stylize-pytorch")
        if len(found) == 2:
            for name in ("first_total", "last_total"):
                found[f"{name}_differs"] = difference(found["impasto"], found["pytorch"], name)
            found["impasto_to_pytorch"] = {
                name: ratio(found["impasto"].get(name), found["pytorch"].get(name))
                for name in ("seconds", "process_s", "device_peak_bytes")
            }
        return found

    def checks(self):
        """What `impasto bench` says about the device's results beside the CPU's."""
        return {
            precision: part["results"][0].get("check")
            for _, precision, _, part in self.named("check")
            if part["results"]
        }

    def failures(self):
        return {
            name: "took too long" if part["timed_out"] else part.get("message", "")
            for name, part in self.parts.items()
            if part["status"] != 0
        }

    def whole(self):
        return {
            "machine": self.result("machine"),
            "method": {
                "evaluation": "loss and gradient; medians without the first; synchronized after each",
                "device_peak_bytes": "most bytes in use on the whole GPU, sampled every 50 ms by NVML"
                " (or nvidia-smi) beside the process, less those in use before it started; CUDA's"
                " context counts",
                "max_memory_*": "PyTorch's own counters",
                "cold": "empty caches of the program, Inductor, Triton and CUDA; files already in memory",
                "ratios": "impasto over PyTorch; below 1, impasto is faster or smaller",
            },
            "evaluations": self.evaluations(),
            "first_iterations": self.first_iterations(),
            "stylizations": self.stylizations(),
            "checks": self.checks(),
            "failures": self.failures(),
            "parts": self.parts,
        }


def times(program, part):
    """The rows of an evaluation: those of `impasto bench`, or of `gpu.py bench`."""
    if program != "impasto":
        return [row for row in part["results"] if "width" in row]
    return part["results"][0].get("times", []) if part["results"] else []


def memory_of(part):
    return {key: part[key] for key in ("device_peak_bytes", "resident_peak_bytes")}


def ratio(a, b):
    return a / b if a and b else None


def difference(a, b, name):
    """Relative."""
    if a.get(name) is None or not b.get(name):
        return None
    return abs(a[name] / b[name] - 1)


def print_table(header, rows):
    rows = [header, *[[show(value) for value in row] for row in rows]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths)))
    print()


def show(value):
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.3g}" if isinstance(value, float) else str(value)


def get(row, name, factor=1.0):
    value = (row or {}).get(name)
    return None if value is None else value * factor


def report(options):
    """One JSON of all parts; with --tables, what it says in short."""
    whole = Report(options.parts).whole()
    temporary = f"{options.output}.new"
    Path(temporary).write_text(json.dumps(whole, indent=1) + "\n")
    os.replace(temporary, options.output)
    if not options.tables:
        return
    found = whole["machine"]
    gpus = ", ".join(gpu["name"] for gpu in found.get("gpus", [])) or "no GPU"
    print(f"{gpus}; {found.get('cpu')}; PyTorch {found.get('torch')}\n")
    programs = ("impasto", "eager", "compile")
    print("Loss and gradient, ms; ratios are impasto's over PyTorch's; peak memory of the GPU, MB:")
    print_table(
        ["size", "precision", *programs, "÷eager", "÷compile", *(f"MB {p}" for p in programs), "loss off by"],
        [
            [
                entry["size"],
                entry["precision"],
                *(get(entry[program], "median_s", 1e3) for program in programs),
                *(get(entry.get(f"impasto_to_{program}"), "median_s") for program in programs[1:]),
                *(megabytes(get(entry[program], "device_peak_bytes")) for program in programs),
                entry.get("loss_differs_from_eager"),
            ]
            for entry in whole["evaluations"]
        ],
    )  # fmt: skip
    print("Targets and first evaluation, s, and all since the process's start (impasto: to its end):")
    print_table(
        ["program", "precision", "cold", "warm", "cold process", "warm process"],
        [
            [
                program,
                (runs.get("cold") or runs["warm"])["precision"],
                *(get(runs.get(cache), "first_s") for cache in ("cold", "warm")),
                *(
                    get(runs.get(cache), "process_s" if program == "impasto" else "from_start_s")
                    for cache in ("cold", "warm")
                ),
            ]
            for program, runs in whole["first_iterations"].items()
        ],
    )
    stylizations = whole["stylizations"]
    print("Stylization (neural-style):")
    print_table(
        ["program", "size", "steps", "s", "process s", "MB", "first loss", "last loss"],
        [
            [
                program,
                get(stylizations[program], "size", 1),
                get(stylizations[program], "iterations", 1),
                get(stylizations[program], "seconds"),
                get(stylizations[program], "process_s"),
                megabytes(get(stylizations[program], "device_peak_bytes")),
                get(stylizations[program], "first_total"),
                get(stylizations[program], "last_total"),
            ]
            for program in ("impasto", "pytorch")
            if program in stylizations
        ],
    )
    for name in ("first_total", "last_total"):
        if (off := stylizations.get(f"{name}_differs")) is not None:
            print(f"{name} differs by {off:.1e}")
    for precision, check in whole["checks"].items():
        passed = (check or {}).get("passed")
        print(f"impasto {precision} beside the CPU: {'passed' if passed else f'not passed ({passed})'}")
    for name, message in whole["failures"].items():
        lines = message.splitlines() or ["(no message)"]
        said = [line for line in lines if line.startswith("error")]
        print(f"failed: {name}: {[*said, lines[-1]][0]}")


def megabytes(value):
    return None if value is None else f"{value / 1e6:.0f}"


def sheet(options):
    """Content, style and results side by side, those that there are."""
    from PIL import Image

    pictures = [Image.open(path).convert("RGB") for path in options.pictures if Path(path).exists()]
    if not pictures:
        return
    width, height = sum(picture.width for picture in pictures), max(p.height for p in pictures)
    whole = Image.new("RGB", (width + 8 * (len(pictures) - 1), height), "white")
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + 8
    whole.save(options.output)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)

    def command(name, function, *flags):
        sub = commands.add_parser(name, help=(function.__doc__ or "").split("\n")[0])
        sub.set_defaults(function=function)
        for flag in flags:
            sub.add_argument(flag, required=True)
        return sub

    sub = command("pictures", make_pictures, "--content", "--style", "--pictures")
    sub.add_argument("--sizes", type=int, nargs="+", required=True)
    for name, function in (("bench", bench), ("stylize", stylize)):
        sub = command(name, function, "--weights", "--pictures")
        sub.add_argument("--sizes", type=int, nargs="+", default=[512])
        sub.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="f32")
        sub.add_argument("--device", default="cuda")
        if function is bench:
            sub.add_argument("--compile", action="store_true", help="with torch.compile")
            sub.add_argument("--repeats", type=int, default=10)
            sub.add_argument("--patience", type=float, default=15, help="seconds of repeats")
        else:
            sub.add_argument("--iterations", type=int, default=200)
            sub.add_argument("--output", required=True)
    sub = command("watch", watch, "--name", "--parts", "--caches")
    sub.add_argument("--limit", type=int, required=True, help="seconds")
    sub.add_argument("--gpu", type=int, default=0)
    sub.add_argument("command", nargs="+", help="RESULTS stands for a file for its results in JSON")
    command("machine", machine)
    sub = command("report", report, "--parts", "--output")
    sub.add_argument("--tables", action="store_true")
    sub = command("sheet", sheet, "--output")
    sub.add_argument("pictures", nargs="+")
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
