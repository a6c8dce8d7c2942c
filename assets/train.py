#!/usr/bin/env python3
"""Trains the slim encoder inside the crate (assets/builtin.safetensors) to stand in for VGG19.

    pip install torch numpy pillow safetensors onnx
    python assets/train.py generate --count 600 --seed 1 --base PHOTOS GENERATED
    python assets/train.py compress --teacher vgg19.onnx --images PHOTOS GENERATED FIRST.safetensors
    python assets/train.py train --teacher vgg19.onnx --images PHOTOS GENERATED --start FIRST.safetensors STUDENT
    python assets/builtin.py STUDENT/student.safetensors

`generate` draws pictures: dead leaves, 1/f^a noise, waves, Julia sets, lettering, and brush strokes
over pictures of the folder `--base`. `compress` and `train` need nothing but the teacher's weights
and folders of pictures. `train` saves the student and its own state every three minutes, and goes on
from there when started again.

What VGG19's layers tell each other fits into few channels: of the 256 of relu3_4, 48 combinations
carry conv4_1's output to within a third of a percent. What needs room is the ReLU. So the student
has VGG19's topology with some of its channels, and after each ReLU (and pool) a matrix that mixes
them to few: the next 3x3 convolution, and the losses, see only those. `compress` makes it of the
teacher, layer after layer:

- of each layer's channels those that explain best what the next layer (and the losses) see of all
  (greedily, by their covariance);
- kernels by least squares, from what the student has so far to the teacher's values before the ReLU;
- the mix by least squares to the main directions of the teacher's responses, in the metric of the
  next layer's kernels (and of the losses);
- then all three by Adam, from what the student has so far to those directions: a small problem for
  each layer, of which every step costs a fraction of a step of the whole.

`train` then trains everything together. At every layer, a linear map P carries the student's mixed
responses S (r channels) to the teacher's T (C channels). With Adam (maps, biases) and Muon (kernels,
mixes; Jordan et al. 2024), what is minimised are the relative errors of

- the responses, |P S - T|^2 / |T|^2, at the layers that no pool follows: the content loss;
- the Gram matrices, |P G(S) P' - G(T)|^2 / |G(T)|^2, at the five style layers: the style loss;
- for a picture x on its way to a style s, |P (G(Sx) - G(Ss)) P' - (G(Tx) - G(Ts))|^2, the difference
  that style transfer minimises, relative to what is left of it.

Most of each batch belongs to two such journeys: crops that take steps down the student's own loss of
style transfer while it learns, so that it is corrected where its gradient leads astray. It leads
astray in the last steps, after an image has been enlarged; so that is where journeys go, and they
are short, for many styles to be seen. The teacher costs more than the student; each batch it has
answered is used again, twice on average, among the next hundred (which takes 14 GB of memory).

On Linux, MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=17179869184 saves a tenth of the
time: memory goes round instead of back to the system.
"""

import argparse
import collections
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter, ImageFont

BLOCKS = (2, 2, 4, 4, 1)
LAYERS = [f"conv{b + 1}_{i + 1}" for b, n in enumerate(BLOCKS) for i in range(n)]
# Channels of the student behind each ReLU, and those that they are mixed to: multiples of six, as the
# engine computes, chosen by what each costs and what losing it costs.
WIDTHS = dict(zip(LAYERS, (15, 24, 60, 66, 120, 96, 72, 72, 168, 96, 60, 60, 192)))
MIXED = dict(zip(LAYERS, (12, 18, 30, 36, 48, 36, 30, 42, 90, 66, 36, 36, 120)))
STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
CONTENT = "conv4_2"
MEAN = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1)
# The layers that a pool follows; their maps are fitted at the end.
POOLED = ("conv1_2", "conv2_2", "conv3_4", "conv4_4")
TRAINED = [name for name in LAYERS if name not in POOLED]
# Weights of the relative errors: of the responses, of the Gram matrices (and of their differences)
# at the style layers.
RESPONSES = dict.fromkeys(TRAINED, 0.1) | dict.fromkeys(STYLE, 0.5) | {CONTENT: 2.0}
GRAMS = {"conv1_1": 2.0, "conv2_1": 3.0, "conv3_1": 5.0, "conv4_1": 20.0, "conv5_1": 2.0}
DIFFERENCES = {"conv1_1": 0.1, "conv2_1": 0.3, "conv3_1": 0.6, "conv4_1": 4.0, "conv5_1": 0.3}
# impasto's default recipe: mean squared error of the responses, and of the Gram matrices / CHW.
CONTENT_WEIGHT, STYLE_WEIGHT = 5.0, 200.0
CROP = 128
# A batch: crops, then for each of two journeys the crops of its style, and its own.
CROPS, JOURNEYS, STYLES, PARTS = 4, 2, 2, 4

# --- Pictures --------------------------------------------------------------------------------------


def spectrum(rng, size):
    """Noise with the power spectrum 1/f^a, in correlated colours."""
    alpha = rng.uniform(0.6, 2.6)
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    f[0, 0] = 1
    noise = np.fft.rfft2(rng.normal(size=(3, size, size))) * f ** (-alpha / 2)
    noise[:, 0, 0] = 0
    noise = np.fft.irfft2(noise, s=(size, size))
    noise /= noise.std(axis=(1, 2), keepdims=True)
    mix = np.eye(3) * rng.uniform(0.2, 1) + rng.normal(size=(3, 1)) * rng.uniform(0.2, 1)
    colour = np.einsum("ij,jhw->hwi", mix, noise) * rng.uniform(25, 60) + rng.uniform(60, 190, 3)
    return Image.fromarray(colour.clip(0, 255).astype(np.uint8))


def palette(rng, base):
    """A dozen colours: from a picture, or at random."""
    if base is not None and rng.random() < 0.6:
        pixels = np.asarray(base).reshape(-1, 3)
        return pixels[rng.integers(len(pixels), size=12)]
    return rng.integers(0, 256, size=(12, 3))


def leaves(rng, size, base):
    """Dead leaves: opaque shapes with a power law of sizes, one over the other."""
    colours = palette(rng, base)
    image = spectrum(rng, size)
    draw = ImageDraw.Draw(image)
    outline = rng.random() < 0.3
    for _ in range(int(rng.integers(80, 500))):
        r = min(size / 2, 2.5 * rng.pareto(1.2) + 2)
        x, y = rng.uniform(-r, size + r, 2)
        a, n = rng.uniform(0, 2 * math.pi), int(rng.integers(3, 9))
        points = [(x + r * rng.uniform(0.5, 1) * math.cos(a + 2 * math.pi * k / n),
                   y + r * rng.uniform(0.5, 1) * math.sin(a + 2 * math.pi * k / n)) for k in range(n)]
        colour = tuple(int(c) for c in (colours[rng.integers(12)] + rng.normal(0, 8, 3)).clip(0, 255))
        edge = (0, 0, 0) if outline else None
        if rng.random() < 0.5:
            draw.ellipse((x - r, y - r * 0.8, x + r, y + r * 0.8), fill=colour, outline=edge)
        else:
            draw.polygon(points, fill=colour, outline=edge)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1)))


def waves(rng, size):
    """Sums of warped gratings, some thresholded: stripes, checks and marble."""
    y, x = np.mgrid[:size, :size] / size
    colour = np.zeros((size, size, 3)) + rng.uniform(60, 190, 3)
    for _ in range(int(rng.integers(1, 5))):
        angle, f = rng.uniform(0, math.pi), 4 * 20 ** rng.random()
        warp = rng.uniform(0, 0.15) * np.sin(2 * math.pi * (rng.uniform(1, 5) * x + rng.uniform(1, 5) * y))
        wave = np.sin(2 * math.pi * f * (x * math.cos(angle) + y * math.sin(angle) + warp))
        if rng.random() < 0.4:
            wave = np.sign(wave)
        colour += wave[..., None] * rng.normal(0, 45, 3)
    return Image.fromarray(colour.clip(0, 255).astype(np.uint8))


def julia(rng, size):
    """A Julia set of z^2 + c, coloured by the time to escape."""
    c = 0.7885 * np.exp(1j * rng.uniform(0, 2 * math.pi))
    zoom, centre = rng.uniform(0.3, 1.5), rng.uniform(-0.5, 0.5, 2)
    y, x = np.mgrid[-1:1:size * 1j, -1:1:size * 1j] * zoom
    z, times = x + centre[0] + 1j * (y + centre[1]), np.zeros((size, size))
    for _ in range(60):
        inside = abs(z) < 4
        z = np.where(inside, z * z + c, z)
        times += inside
    phase = times[..., None] * rng.uniform(0.05, 0.4, 3) + rng.uniform(0, 6, 3)
    return Image.fromarray((127 + 120 * np.sin(phase)).astype(np.uint8))


def lettering(rng, size, base):
    """Words and lines of many sizes on a ground."""
    colours = palette(rng, base)
    plain = Image.new("RGB", (size, size), tuple(int(c) for c in colours[0]))
    image = spectrum(rng, size) if rng.random() < 0.5 else plain
    for _ in range(int(rng.integers(8, 60))):
        font = ImageFont.load_default(float(6 * 12 ** rng.random()))
        text = "".join(chr(int(c)) for c in rng.integers(33, 127, size=int(rng.integers(1, 14))))
        layer = Image.new("L", (size, size))
        ImageDraw.Draw(layer).text(tuple(rng.uniform(-20, size, 2)), text, font=font, fill=255)
        if rng.random() < 0.4:
            layer = layer.rotate(rng.uniform(0, 360), Image.BICUBIC)
        image.paste(tuple(int(c) for c in colours[rng.integers(12)]), mask=layer)
    return image


def strokes(rng, size, base):
    """A picture painted over in brush strokes along its edges, large to small (after Hertzmann 1998)."""
    source = np.asarray(base.filter(ImageFilter.GaussianBlur(2)), dtype=float)
    gy, gx = np.gradient(np.asarray(base.convert("L").filter(ImageFilter.GaussianBlur(4)), dtype=float))
    swirl = np.asarray(spectrum(rng, size).convert("L").filter(ImageFilter.GaussianBlur(12)), dtype=float)
    weight = rng.uniform(0, 1)
    angle = np.arctan2(gx, -gy) * (1 - weight) + weight * (swirl - swirl.mean()) / (swirl.std() + 1e-6)
    image = Image.fromarray(source.astype(np.uint8)).resize((2 * size, 2 * size))
    draw = ImageDraw.Draw(image)
    jitter, length = rng.uniform(0, 25), rng.uniform(2, 7)
    fine = rng.uniform(1, 3)
    for radius in (8 * fine, 4 * fine, 2 * fine, fine):
        count = int(1.5 * size * size / (radius * radius * length))
        for x, y in rng.uniform(0, size - 1, (count, 2)):
            colour = source[int(y), int(x)] + rng.normal(0, jitter, 3) * [1, 0.7, 1]
            px, py, line = x, y, []
            for _ in range(4):
                line.append((2 * px, 2 * py))
                a = angle[int(min(max(py, 0), size - 1)), int(min(max(px, 0), size - 1))]
                px, py = px + radius * length / 3 * math.cos(a), py + radius * length / 3 * math.sin(a)
            colour = colour.clip(0, 255).astype(int)
            draw.line(line, tuple(colour), max(1, int(radius * 1.6)), joint="curve")
            if rng.random() < 0.5:
                shade = (colour + rng.normal(0, 20)).clip(0, 255).astype(int)
                draw.line([(a + radius / 2, b + radius / 2) for a, b in line], tuple(shade), max(1, int(radius * 0.4)))
    return image.resize((size, size), Image.LANCZOS)


def generate(arguments):
    rng = np.random.default_rng(arguments.seed)
    bases = pictures_in([arguments.base]) if arguments.base else []
    arguments.out.mkdir(parents=True, exist_ok=True)
    size = 320
    for number in range(arguments.count):
        base = None
        if bases:
            base = Image.open(bases[rng.integers(len(bases))]).convert("RGB")
            side = int(rng.integers(min(size, min(base.size)), min(base.size) + 1))
            x, y = (int(rng.integers(0, extent - side + 1)) for extent in base.size)
            base = base.crop((x, y, x + side, y + side)).resize((size, size), Image.LANCZOS)
        kind = rng.random()
        if kind < 0.45 and (base is not None or number % 2):
            image = strokes(rng, size, base or leaves(rng, size, None))
        elif kind < 0.65:
            image = leaves(rng, size, base)
        elif kind < 0.75:
            image = spectrum(rng, size)
        elif kind < 0.85:
            image = waves(rng, size)
        elif kind < 0.92:
            image = julia(rng, size)
        else:
            image = lettering(rng, size, base)
        image.save(arguments.out / f"{number:04}.png")


def pictures_in(folders):
    names = sorted(path for folder in folders for path in Path(folder).iterdir()
                   if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if not names:
        raise SystemExit(f"no pictures in {', '.join(map(str, folders))}")
    return names


class Crops:
    """Random crops of pictures, at many scales, some with other colours or noise."""

    def __init__(self, folders):
        self.pictures = [Image.open(path).convert("RGB") for path in pictures_in(folders)]

    def pair(self):
        """Two crops, mostly of the same picture."""
        image = random.choice(self.pictures)
        return [self.draw(image), self.draw(image if random.random() < 0.9 else None)]

    def draw(self, image=None):
        image = image or random.choice(self.pictures)
        largest = min(image.size)
        side = round(min(largest, CROP * 0.7 * 5 ** random.random()))
        x, y = (random.randint(0, extent - side) for extent in image.size)
        image = image.crop((x, y, x + side, y + side)).resize((CROP, CROP), Image.LANCZOS)
        crop = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
        if random.random() < 0.5:
            crop = crop.flip(2)
        if random.random() < 0.2:
            crop = crop.rot90(random.randint(1, 3), (1, 2))
        if random.random() < 0.3:
            gain = torch.empty(3, 1, 1).uniform_(0.6, 1.4)
            crop = ((crop - 128) * gain + 128 + torch.empty(3, 1, 1).uniform_(-40, 40)).clamp(0, 255)
        if random.random() < 0.1:
            crop = crop[torch.randperm(3)]
        if random.random() < 0.15:
            crop = crop + torch.randn_like(crop) * random.uniform(2, 30)
        return crop


# --- Networks --------------------------------------------------------------------------------------


def responses(layers, x, names=TRAINED):
    """What the named layers show: their ReLU outputs, mixed where there is a mix. Layers are triples
    of kernel, bias, and mix or None."""
    out = {}
    for name, (weight, bias, mix) in zip(LAYERS, layers):
        x = F.relu(F.conv2d(x, weight, bias, padding=1))
        if name in names:
            out[name] = mixed(x, mix)
        if name in POOLED:
            x = mixed(F.max_pool2d(x, 2), mix)
        else:
            x = out[name] if name in names else mixed(x, mix)
        if name == max(names, key=LAYERS.index):
            break
    return out


def mixed(x, mix):
    return x if mix is None else F.conv2d(x, mix[:, :, None, None])


def rows(features):
    """[batch, positions, channels]: a view of the order that the networks work in."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


def gram(features):
    flat = rows(features)
    return (flat.transpose(1, 2) @ flat).float() / flat.shape[1]


def load_teacher(path):
    """The convolutions to conv5_1 for RGB of 0-255 less MEAN, from ONNX or safetensors."""
    if str(path).endswith(".onnx"):
        import onnx
        from onnx import numpy_helper

        model = onnx.load(path)
        values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        names = [node.input[1:3] for node in model.graph.node if node.op_type == "Conv"]
        arrays = [(values[w], values[b]) for w, b in names]
    else:
        from safetensors.numpy import load_file

        values = load_file(path)
        numbers = sorted({int(name.split(".")[1]) for name in values if name.startswith("features.")})
        arrays = [(values[f"features.{n}.weight"], values[f"features.{n}.bias"]) for n in numbers]
    if arrays[0][0].shape != (64, 3, 3, 3) or np.abs(arrays[0][1]).max() > 100:
        raise SystemExit(f"{path}: these are not VGG19's weights")
    return [(torch.tensor(w, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last),
             torch.tensor(b, dtype=torch.bfloat16), None) for w, b in arrays[:len(LAYERS)]]


# --- Compression -----------------------------------------------------------------------------------


def solve(ss, ts, ridge=1e-4):
    """The map that carries S to T by least squares, from the products S S' and T S'."""
    ridge = torch.eye(len(ss), dtype=torch.double) * ss.diag().mean() * ridge
    return torch.linalg.solve(ss + ridge, ts.T).T


def root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def choose(covariance, metric, count):
    """The channels that explain most of all channels in the metric, one after the other."""
    left, chosen = covariance.clone(), []
    for _ in range(min(count, len(covariance))):
        own = left.diag()
        gain = ((left @ metric) * left).sum(1) / own.clamp(min=1e-12)
        gain[own < 1e-6 * covariance.diag()] = 0
        gain[chosen] = 0
        best = int(gain.argmax())
        chosen.append(best)
        left = left - torch.outer(left[:, best], left[best]) / left[best, best]
    return sorted(chosen)


def slices(*tensors, size=16):
    return zip(*(tensor.split(size) for tensor in tensors))


def refine(layer, before, target, pooled, steps):
    """Kernel, bias and mix that lead from what is before the layer to the target, by Adam."""
    parts = [part.clone().requires_grad_() for part in layer]
    weight, bias, mix = parts
    # Steps in proportion to the size of what they change.
    sizes = [weight.square().mean().sqrt().item(), 0.3, mix.square().mean().sqrt().item()]
    adam = torch.optim.Adam([{"params": [part]} for part in parts], betas=(0.9, 0.99))
    side = before.shape[2]
    window = min(side, 32)
    batch = 24 if window > 16 else 48
    errors, norm = [], target.square().sum(1).mean()
    for step in range(steps):
        rate = 0.02 * min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group, size in zip(adam.param_groups, sizes):
            group["lr"] = rate * size
        some = torch.randint(len(before), (batch,))
        y, x = (2 * random.randint(0, (side - window) // 2) for _ in range(2))
        patch = F.pad(before[some], (1, 1, 1, 1))[:, :, y:y + window + 2, x:x + window + 2]
        seen = F.relu(F.conv2d(patch.contiguous(memory_format=torch.channels_last), weight, bias))
        scale = 2 if pooled else 1
        seen = F.max_pool2d(seen, 2) if pooled else seen
        y, x, window_ = y // scale, x // scale, window // scale
        wanted = target[some, :, y:y + window_, x:x + window_]
        error = (mixed(seen, mix) - wanted).square().sum(1).mean() / norm
        adam.zero_grad()
        error.backward()
        adam.step()
        errors.append(error.item())
    return [part.detach() for part in parts], float(np.mean(errors[-100:]))


@torch.no_grad()
def narrow(layer, before, pooled, count, steps):
    """The layer with so many of its channels, fitted to give what it gives with all of them."""
    weight, bias, mix = layer
    if count == len(weight):
        return layer
    target, covariance = [], 0
    for some in before.split(16):
        seen = F.relu(F.conv2d(some, weight, bias, padding=1))
        seen = F.max_pool2d(seen, 2) if pooled else seen
        target.append(mixed(seen, mix))
        flat = rows(seen).flatten(0, 1)
        covariance += (flat.T @ flat).double()
    chosen = choose(covariance, (mix.T @ mix).double(), count)
    fewer = solve(covariance[chosen][:, chosen], (mix.double() @ covariance)[:, chosen])
    start = [weight[chosen], bias[chosen], fewer.float()]
    with torch.enable_grad():
        layer, error = refine(start, before, torch.cat(target), pooled, steps)
    print(f"{len(weight)} channels narrowed to {len(layer[0])}, error {error:.4f}", flush=True)
    return layer


@torch.no_grad()
def compress(teacher, x, steps, kept=()):
    """Layers of the student and their maps P, fitted to pixels `x` less MEAN. The layers `kept` are
    the first of them, narrowed where they have more channels than wanted, and have no maps here."""
    layers, maps = [], {}
    ours, theirs = x / 128, x
    for index, (name, (kernel, bias, _)) in enumerate(zip(LAYERS, teacher)):
        kernel, bias = kernel.float(), bias.float()
        pooled = name in POOLED
        # The mix is behind the pool.
        after = (lambda x: F.max_pool2d(x, 2)) if pooled else (lambda x: x)
        before = ours
        if index < len(kept):
            layers.append(narrow(kept[index], before, pooled, WIDTHS[name], steps))
            ours, theirs = (
                torch.cat([mixed(after(F.relu(F.conv2d(some, k, b, padding=1))), mix) for some in x.split(16)])
                for x, (k, b, mix) in ((ours, layers[index]), (theirs, (kernel, bias, None))))
            continue
        wanted = torch.cat([F.conv2d(some, kernel, bias, padding=1) for some in theirs.split(16)])
        whole = F.relu(wanted)
        theirs = after(whole)
        covariance = sum(((flat := rows(some).flatten(0, 1)).T @ flat).double() for some in whole.split(16))
        covariance /= whole.numel() / whole.shape[1]
        # What counts: the next layer's values, and the losses.
        metric = torch.zeros_like(covariance)
        if index + 1 < len(LAYERS):
            following = teacher[index + 1][0].double()
            metric += torch.einsum("ocij,odij->cd", following, following)
            metric /= (metric * covariance).sum()
        if name in STYLE or name == CONTENT:
            metric += torch.eye(len(metric), dtype=torch.double) / covariance.trace()

        chosen = choose(covariance, metric, WIDTHS[name])
        if index == 0:
            weight, offset = kernel[chosen] * 128, bias[chosen]
        else:
            products = [0, 0]
            for some, values in slices(ours, wanted, size=4):
                patches = F.unfold(some, 3, padding=1).transpose(1, 2).flatten(0, 1)
                patches = torch.cat([patches, torch.ones(len(patches), 1)], 1)
                products[0] += (patches.T @ patches).double()
                products[1] += (rows(values).flatten(0, 1)[:, chosen].T @ patches).double()
            solution = solve(*products, ridge=1e-5).float()
            weight, offset = solution[:, :-1].reshape(-1, ours.shape[1], 3, 3), solution[:, -1].clone()
        del wanted

        def run(weight, offset):
            """The ReLU outputs, each channel of size 1."""
            out = torch.cat([F.relu(F.conv2d(some, weight, offset, padding=1)) for some in before.split(16)])
            size = out.square().mean((0, 2, 3)).sqrt()
            size += 1e-3 * size.square().mean().sqrt()
            return out / size[:, None, None], weight / size[:, None, None, None], offset / size, size

        def products(ours, theirs):
            pairs = [[rows(part).flatten(0, 1) for part in pair] for pair in slices(ours, theirs)]
            return (sum((s.T @ s).double() for s, _ in pairs), sum((t.T @ s).double() for s, t in pairs),
                    sum((t.T @ t).double() for _, t in pairs))

        # The mix is to give the teacher's main directions in the metric.
        ours, weight, offset, _ = run(weight, offset)
        ss, ts, tt = products(after(ours), theirs)
        measure = root(metric)
        best = torch.linalg.eigh(measure @ tt @ measure)[1][:, -MIXED[name]:]
        view = best.T @ measure
        target = torch.cat([mixed(some, view.float()) for some in theirs.split(16)])
        start = [weight, offset, (view @ solve(ss, ts)).float()]
        with torch.enable_grad():
            (weight, offset, mix), error = refine(start, before, target, pooled, steps)
        del target
        ours, weight, offset, size = run(weight, offset)
        mix = mix * size
        shown = torch.cat([mixed(some, mix) for some in after(ours).split(16)])
        size = shown.std((0, 2, 3)).clamp(min=1e-6)
        mix = mix / size[:, None]
        maps[name] = solve(*products(mixed(ours, mix), whole)[:2]).float()
        ours = shown / size[:, None, None]
        layers.append((weight, offset, mix))
        print(f"{name}: {len(weight)} channels mixed to {len(mix)}, error {error:.4f}", flush=True)
    return layers, maps


class Student:
    """Kernels, biases and mixes of the layers, and the maps P.

    P = Q W: W whitens the responses, whose channels are far from independent, so that steps of
    equal size in all entries of Q (`maps`) make sense.
    """

    def __init__(self, layers, maps, crops):
        last = torch.channels_last
        self.layers = [(weight.contiguous(memory_format=last).requires_grad_(), bias.requires_grad_(),
                        mix.contiguous().requires_grad_()) for weight, bias, mix in layers]
        self.maps = {name: torch.zeros_like(maps[name]).requires_grad_() for name in LAYERS}
        self.whitening = {}
        self.whiten([torch.stack([crops.draw() for _ in range(4)]) for _ in range(40)], maps)

    @classmethod
    def load(cls, path, crops):
        from safetensors.torch import load_file

        stored = load_file(path)
        layers = [[stored[f"{name}.{part}"] for part in ("weight", "bias", "mix")] for name in LAYERS]
        return cls(layers, {name: stored[f"{name}.projection"] for name in LAYERS}, crops)

    @torch.no_grad()
    def fit(self, teacher, crops, names, count):
        """Sets the maps of these layers by least squares over crops."""
        products = {name: [0, 0] for name in names}
        for _ in range(count):
            x = torch.stack([crops.draw() for _ in range(4)]) - MEAN
            theirs, ours = responses(teacher, cast(x), names), self.responses(x, names)
            for name in names:
                s, t = (rows(r[name]).flatten(0, 1).float() for r in (ours, theirs))
                products[name][0] += (s.T @ s).double()
                products[name][1] += (t.T @ s).double()
        for name, (ss, ts) in products.items():
            self.set_map(name, solve(ss, ts), ss)

    @torch.no_grad()
    def whiten(self, pictures, maps=None):
        """Brings W up to date; P stays the same, or is set."""
        products = dict.fromkeys(LAYERS, 0)
        for x in pictures:
            for name, response in self.responses(x - MEAN, LAYERS).items():
                s = rows(response).flatten(0, 1)
                products[name] += (s.T @ s).double()
        for name, ss in products.items():
            self.set_map(name, maps[name] if maps else self.map(name), ss)

    def set_map(self, name, map, ss):
        """P, and W = C^-1/2 for the covariance C; W takes P's scale too, for Q of about 1."""
        values, vectors = torch.linalg.eigh(ss / ss.trace())
        root = (values.clamp(min=0) + 1e-4 * values.mean()).sqrt()
        whole = map.double() @ (vectors * root) @ vectors.T
        scale = whole.square().mean().sqrt()
        self.maps[name].data = (whole / scale).float()
        self.whitening[name] = ((vectors / root) @ vectors.T * scale).float()

    def responses(self, x, names=TRAINED):
        """Of pixels 0-255 less MEAN."""
        return responses(self.layers, (x / 128).contiguous(memory_format=torch.channels_last), names)

    def map(self, name):
        return self.maps[name] @ self.whitening[name]

    def save(self, path):
        from safetensors.torch import save_file

        tensors = {}
        for name, (weight, bias, mix) in zip(LAYERS, self.layers):
            tensors |= {f"{name}.weight": weight, f"{name}.bias": bias, f"{name}.mix": mix,
                        f"{name}.projection": self.map(name)}
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)

    def state(self):
        return {"layers": self.layers, "maps": self.maps, "whitening": self.whitening}

    def restore(self, state):
        self.layers, self.maps, self.whitening = state["layers"], state["maps"], state["whitening"]


def cast(x):
    return x.bfloat16().contiguous(memory_format=torch.channels_last)


class Muon:
    """Momentum whose matrices are made orthogonal, with steps as large as Adam's (Jordan et al. 2024;
    Liu et al., arXiv 2502.16982)."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.momenta = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, rate):
        for parameter, momentum in zip(self.parameters, self.momenta):
            momentum.mul_(0.95).add_(parameter.grad)
            update = (parameter.grad + 0.95 * momentum).flatten(1)
            parameter.grad = None
            tall = update.shape[0] > update.shape[1]
            x = (update.T if tall else update) / (update.norm() + 1e-12)
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
            x = (x.T if tall else x) * 0.2 * max(update.shape) ** 0.5
            parameter.sub_(rate * x.reshape(parameter.shape))


# --- Training --------------------------------------------------------------------------------------


class Journey:
    """Crops on their way to a style, together as if they were parts of one picture: down the student's
    loss at half the size, then, enlarged, at the whole. The style is two crops of a picture, or of
    two. A new journey has the first half behind it."""

    def __init__(self, crops, student):
        content, styles = torch.stack([crops.draw() for _ in range(PARTS)]), torch.stack(crops.pair())
        start = half(content)
        if random.random() < 0.15:
            start = 128 + 40 * torch.randn_like(start)
        self.begin(start, half(content), half(styles), 30)
        self.descend(student, self.end)
        self.begin(F.interpolate(self.x, scale_factor=2, mode="bicubic"), content, styles, random.randint(30, 90))

    def begin(self, x, content, styles, end):
        self.x, self.content, self.styles = x, content, styles
        self.moments = [torch.zeros_like(x), torch.zeros_like(x)]
        self.rate = 255 * 0.01 * 4 ** random.random()
        self.steps, self.end = 0, end

    def descend(self, student, count):
        """Steps of Adam down the loss of style transfer, as the student sees it by now."""
        with torch.no_grad():
            maps = {name: student.map(name) for name in (*STYLE, CONTENT)}
            styles = student.responses(self.styles - MEAN)
            targets = {name: gram(styles[name]).mean(0) for name in STYLE}
            content = student.responses(self.content - MEAN, [CONTENT])[CONTENT]
        for _ in range(min(count, self.end - self.steps)):
            x = self.x.clone().requires_grad_()
            loss = 0
            with torch.enable_grad():
                ours = student.responses(x - MEAN)
                for name in STYLE:
                    inner = maps[name].T @ maps[name]
                    difference = gram(ours[name]).mean(0) - targets[name]
                    # |P D P'|^2 = tr(M D M D) for M = P'P
                    error = ((inner @ difference) * (difference @ inner)).sum()
                    loss = loss + STYLE_WEIGHT * error / len(maps[name]) ** 4
                moved = rows(ours[CONTENT] - content) @ maps[CONTENT].T
                loss = loss + CONTENT_WEIGHT * moved.square().mean()
            gradient = torch.autograd.grad(loss, x)[0]
            self.steps += 1
            first, second = self.moments
            first.lerp_(gradient, 0.1)
            second.lerp_(gradient.square(), 0.01)
            step = first / (1 - 0.9 ** self.steps)
            step = step / ((second / (1 - 0.99 ** self.steps)).sqrt() + 1e-12)
            rate = self.rate * (1 - 0.8 * self.steps / self.end)
            self.x = (self.x - rate * step).clamp(-30, 285)


def half(x):
    return F.avg_pool2d(x, 2)


class Answer:
    """What the teacher says to a batch, stored small: every second position of the first two blocks."""

    def __init__(self, teacher, x):
        self.x = x
        self.offset = (random.randint(0, 1), random.randint(0, 1))
        with torch.no_grad():
            theirs = responses(teacher, cast(x - MEAN))
            self.grams = {name: gram(theirs[name]) for name in STYLE}
            self.responses = {name: self.thin(name, r) for name, r in theirs.items()}
            self.sizes = {name: r.float().square().sum((1, 2)) + 1e-3 for name, r in self.responses.items()}

    def thin(self, name, r):
        dy, dx = self.offset
        return rows(r[:, :, dy::2, dx::2] if name[4] in "12" else r).contiguous()


def losses(student, answer):
    """The relative errors, as in the module's comment: a number for each kind and layer."""
    ours = student.responses(answer.x - MEAN)
    errors = {}
    for name in TRAINED:
        # The sum over pictures of |P S - T|^2 / |T|^2, without P S at every position.
        map, theirs, mine = student.map(name), answer.responses[name], answer.thin(name, ours[name])
        weighted = (mine / answer.sizes[name][:, None, None]).flatten(0, 1)
        own = (map.T @ map * (mine.flatten(0, 1).T @ weighted)).sum()
        scale = answer.sizes[name].mean()
        product = theirs.flatten(0, 1).T @ (weighted * scale).bfloat16()
        errors["response", name] = (own - 2 * (map * product).sum() / scale) / len(mine) + 1
    for name in STYLE:
        map, theirs = student.map(name), answer.grams[name]
        inner, size = map.T @ map, theirs.square().sum((1, 2))
        mine = gram(ours[name])

        def squared(g, t):
            """|P g P' - t|^2"""
            own = ((inner @ g) * (g @ inner)).sum((1, 2))
            half = map.bfloat16()
            return own - 2 * (half.T @ (t.bfloat16() @ half) * g).sum((1, 2)) + t.square().sum((1, 2))

        errors["gram", name] = (squared(mine, theirs) / size).mean()
        mine, theirs, size = (part[CROPS:].unflatten(0, (JOURNEYS, STYLES + PARTS)) for part in (mine, theirs, size))
        between = lambda g: g[:, STYLES:].mean(1) - g[:, :STYLES].mean(1)
        difference = between(theirs)
        left = difference.square().sum((1, 2)) + 0.005 * size[:, :STYLES].mean(1)
        errors["difference", name] = (squared(between(mine), difference) / left).mean()
    return errors


def total(errors):
    weights = {"response": RESPONSES, "gram": GRAMS, "difference": DIFFERENCES}
    return sum(weights[kind][name] * error for (kind, name), error in errors.items())


@torch.no_grad()
def calibrate(student, teacher, crops):
    """Scales the maps so that losses are, in the median, as large as the teacher's: what a map cannot
    explain is missing from every distance. At the style layers between the Gram matrices of crops;
    elsewhere between the responses to crops before and after a journey."""
    ratios = {name: [] for name in TRAINED}
    for _ in range(8):
        journey = Journey(crops, student)
        start = journey.x
        journey.descend(student, 36)
        x = torch.cat([start, journey.x, *(crops.draw()[None] for _ in range(4))]) - MEAN
        theirs, ours = responses(teacher, cast(x)), student.responses(x)
        for name in TRAINED:
            map = student.map(name)
            if name in STYLE:
                t, s = gram(theirs[name]), map @ gram(ours[name]) @ map.T
                pairs = [(i, i + 1) for i in range(len(x) - 1)]
            else:
                t, s = rows(theirs[name]).float(), rows(ours[name]) @ map.T
                pairs = [(i, i + PARTS) for i in range(PARTS)]
            ratios[name] += [((s[a] - s[b]).square().sum() / (t[a] - t[b]).square().sum()).item() for a, b in pairs]
    for name in TRAINED:
        ratio = float(np.median(ratios[name]))
        print(f"{name}: losses are {ratio:.3f} of the teacher's", flush=True)
        # A Gram matrix is quadratic in the map, and its loss of fourth order.
        student.maps[name].mul_(ratio ** (-0.25 if name in STYLE else -0.5))


def compress_to(arguments):
    torch.manual_seed(arguments.seed)
    random.seed(arguments.seed)
    teacher, crops = load_teacher(arguments.teacher), Crops(arguments.images)
    x = [crops.draw() for _ in range(arguments.crops)]
    kept, maps = [], {}
    if arguments.student:
        student = Student.load(arguments.student, crops)
        for _ in range(arguments.crops // 9):
            journey = Journey(crops, student)
            journey.descend(student, random.choice([6, 20, 60]))
            x += journey.x
        if arguments.keep:
            kept = [[part.detach() for part in layer] for layer in student.layers[:LAYERS.index(arguments.keep) + 1]]
            maps = {name: student.map(name).detach() for name in LAYERS[:len(kept)]}
    random.shuffle(x)
    layers, fitted = compress(teacher, torch.stack(x) - MEAN, arguments.steps, kept)
    Student(layers, maps | fitted, crops).save(arguments.out)


def train(arguments):
    torch.manual_seed(arguments.seed)
    random.seed(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    teacher, crops = load_teacher(arguments.teacher), Crops(arguments.images)
    student = Student.load(arguments.start, crops)
    state_file = arguments.out / "state.pt"
    spent, count = 0.0, 0
    state = torch.load(state_file) if state_file.exists() else None
    if state:
        student.restore(state["student"])
        spent, count = state["spent"], state["count"]
    muon = Muon([part for weight, _, mix in student.layers for part in (weight, mix)])
    others = [bias for _, bias, _ in student.layers] + list(student.maps.values())
    adam = torch.optim.Adam(others, betas=(0.9, 0.98))
    if state:
        muon.momenta = state["muon"]
        adam.load_state_dict(state["adam"])

    journeys = [Journey(crops, student) for _ in range(10)]
    earlier = collections.deque(maxlen=100)
    shown, saved, start = collections.Counter(), time.time(), time.time() - spent
    while (spent := time.time() - start) < 60 * arguments.minutes:
        progress = spent / (60 * arguments.minutes)
        rate = arguments.rate * min(1, count / 100) * (0.5 + 0.5 * math.cos(math.pi * progress))
        batch = [torch.stack([crops.draw() for _ in range(CROPS)])]
        for place in random.sample(range(len(journeys)), JOURNEYS):
            journey = journeys[place]
            if journey.steps >= journey.end:
                journey = journeys[place] = Journey(crops, student)
            journey.descend(student, 4)
            batch += [journey.styles, journey.x]
        answer = Answer(teacher, torch.cat(batch))

        for used in [answer, *random.sample(earlier, min(2, len(earlier)))]:
            errors = losses(student, used)
            total(errors).backward()
            muon.step(rate)
            for group in adam.param_groups:
                group["lr"] = rate
            adam.step()
            adam.zero_grad()
            if used is answer:
                shown.update({key: error.item() for key, error in errors.items()})
        earlier.append(answer)

        count += 1
        if count % 250 == 0:
            student.whiten([answer.x for answer in list(earlier)[-16:]])
        if count % 100 == 0:
            line = "  ".join(f"{kind[0]}{name[4:]} {shown[kind, name] / 100:.4f}" for kind, name in shown
                             if name in STYLE or name == CONTENT)
            print(f"{spent / 60:6.1f} min  {count:6}  {line}", flush=True)
            shown.clear()
        if time.time() - saved > 180:
            saved = time.time()
            torch.save({"student": student.state(), "muon": muon.momenta, "adam": adam.state_dict(),
                        "spent": spent, "count": count}, arguments.out / "state.tmp")
            (arguments.out / "state.tmp").replace(state_file)
            student.save(arguments.out / "student.safetensors")
    student.fit(teacher, crops, POOLED, 60)
    calibrate(student, teacher, crops)
    student.save(arguments.out / "student.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("generate", help="draw pictures to train on")
    command.add_argument("out", type=Path, help="folder to write to")
    command.add_argument("--count", type=int, default=600)
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--base", type=Path, help="folder of pictures to paint over and take colours from")
    command.set_defaults(run=generate)
    fit = commands.add_parser("compress", help="make the slim encoder of the teacher, layer by layer")
    fit.add_argument("out", type=Path, help="student to write")
    fit.add_argument("--crops", type=int, default=450, help="crops that it is fitted to")
    fit.add_argument("--steps", type=int, default=4500, help="steps of Adam for each layer")
    fit.add_argument("--student", type=Path, help="student whose pictures on their way to a style are added")
    fit.add_argument("--keep", choices=LAYERS, help="take the student's layers up to this one, narrowed where need be")
    fit.set_defaults(run=compress_to)
    command = commands.add_parser("train", help="train the slim encoder as a whole")
    command.add_argument("out", type=Path, help="folder for the student and the state of the training")
    command.add_argument("--start", type=Path, required=True, help="student to start from")
    command.add_argument("--minutes", type=float, default=90)
    command.add_argument("--rate", type=float, default=5e-4, help="step size at its peak")
    command.set_defaults(run=train)
    for command in (fit, command):
        command.add_argument("--teacher", type=Path, required=True,
                             help="VGG19's weights for RGB of 0-255, ONNX or safetensors")
        command.add_argument("--images", type=Path, nargs="+", required=True, help="folders of pictures")
        command.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
