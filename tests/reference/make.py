"""Reference values for the Rust tests, computed with plain PyTorch.

    pip install -r requirements.txt
    python make.py                                  # the seeded small network
    python make.py --weights vgg19-features.onnx.gz # also the ImageNet network

Everything is written to `../data` (see the README there). The ImageNet files are
left as they are unless `--weights` is given.

Conventions
-----------
- Images are RGB in [0, 1], axes [batch, channels, height, width].
- `reluX_Y` is the output of the ReLU after the convolution `convX_Y`.
- Stored inputs (images, weights) are float32. From exactly these inputs everything
  is computed in float64 and stored as float32; the same computation in float32 gives
  the deviations recorded in the JSON files ("float32"), an indication of the accuracy
  that a float32 implementation can reach.
- Deviations are relative: max|a - b| / max|b| for tensors; for images at the end of a
  trajectory also |a - b| / |b| in the L2 norm ("image_deviation_l2").
- Loss terms are unweighted unless the name says otherwise.

Why trajectories need care
--------------------------
The gradient jumps where a ReLU input changes sign or another element wins a pooling window.
Most images tried give a trajectory that a perturbation of 1e-6 either leaves unchanged or,
from some iteration on, moves by 1e-3 to 1e-2, and L-BFGS more than Adam. The images and the
TV weight of the small problem were therefore selected, by trying seeds, so that in seven
runs from starts perturbed by up to 2e-6 all variants stayed within 1e-3 in the L2 norm
(L-BFGS within 1e-6). Adam's first steps are about lr * sign(gradient), so single pixels
with a gradient near zero deviate by more: compare its image in the L2 norm.
"""

import argparse
import copy
import gzip
import json
import math
import platform
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save as safetensors_bytes

DATA = Path(__file__).resolve().parent.parent / "data"
SEED = 19

# --- VGG19 -----------------------------------------------------------------------------

BLOCKS = [2, 2, 4, 4, 4]  # convolutions per block; a 2x2 max pool ends each block
CONVS = [f"{b}_{i}" for b, n in enumerate(BLOCKS, 1) for i in range(1, n + 1)]
TORCHVISION_INDEX = dict(zip(CONVS, [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]))
STYLE_LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
CONTENT_LAYER = "relu4_2"

TORCHVISION = {"scale": 1.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CAFFE = {"scale": 255.0, "mean": [123.68, 116.779, 103.939], "std": [1.0, 1.0, 1.0]}  # RGB order


def channels(width):
    """Output channels of the five blocks; width 64 is VGG19."""
    return [width, 2 * width, 4 * width, 8 * width, 8 * width]


class Vgg:
    """VGG19's convolutional part as functions of an image in [0, 1]."""

    def __init__(self, weights, normalisation, pool=F.max_pool2d, dtype=torch.float64):
        self.weights = {k: v.to(dtype) for k, v in weights.items()}
        self.normalisation = normalisation
        self.pool = pool
        self.dtype = dtype

    def features(self, image, until="pool5"):
        """All responses `convX_Y`, `reluX_Y`, `poolX` up to and including `until`."""
        n = self.normalisation
        mean = torch.tensor(n["mean"], dtype=self.dtype).view(1, 3, 1, 1)
        std = torch.tensor(n["std"], dtype=self.dtype).view(1, 3, 1, 1)
        x = (image * n["scale"] - mean) / std
        out = {}
        for block, count in enumerate(BLOCKS, 1):
            for i in range(1, count + 1):
                name = f"{block}_{i}"
                key = f"features.{TORCHVISION_INDEX[name]}"
                x = F.conv2d(x, self.weights[f"{key}.weight"], self.weights[f"{key}.bias"], padding=1)
                out[f"conv{name}"] = x
                x = F.relu(x)
                out[f"relu{name}"] = x
                if f"relu{name}" == until:
                    return out
            x = self.pool(x, 2, 2)  # an odd last row or column is dropped
            out[f"pool{block}"] = x
        return out


# --- losses ----------------------------------------------------------------------------


def gram(features, divide_by):
    """Gram matrix [C, C] of [1, C, H, W], divided by C*H*W ("chw"), H*W ("hw") or 1 ("none")."""
    _, c, h, w = features.shape
    flat = features.reshape(c, h * w)
    return flat @ flat.T / {"chw": c * h * w, "hw": h * w, "none": 1}[divide_by]


def gram_mse(x, target, divide_by):
    return F.mse_loss(gram(x, divide_by), gram(target, divide_by))


def gatys_style(x, target):
    """1/(4 N^2 M^2) sum (G - A)^2 with raw Gram matrices (Gatys et al. 2016, eq. 4).

    With H*W differing between the two images each matrix is divided by its own M = H*W:
    1/(4 N^2) sum (G/M_x - A/M_target)^2, the same number when the sizes agree.
    """
    n = x.shape[1]
    return (gram(x, "hw") - gram(target, "hw")).square().sum() / (4 * n**2)


def moments(features, ridge=0.0):
    """Mean [C] and covariance [C, C] over the positions."""
    c = features.shape[1]
    flat = features.reshape(c, -1)
    mean = flat.mean(1)
    return mean, flat @ flat.T / flat.shape[1] - torch.outer(mean, mean) + ridge * torch.eye(c, dtype=flat.dtype)


def mean_std(x, target):
    """Statistics of adaptive instance normalisation, 1e-5 under the root (Huang and Belongie 2017)."""
    (m, s), (n, t) = moments(x), moments(target)
    deviations = [(v.diagonal().clamp(min=0) + 1e-5).sqrt() for v in (s, t)]
    return F.mse_loss(m, n) + F.mse_loss(*deviations)


def newton_schulz(a, iterations=12):
    """A^1/2 and A^-1/2."""
    norm = a.square().sum().sqrt()
    y, z, i = a / norm, torch.eye(len(a), dtype=a.dtype), torch.eye(len(a), dtype=a.dtype)
    for _ in range(iterations):
        t = (3 * i - z @ y) / 2
        y, z = y @ t, t @ z
    return y * norm.sqrt(), z / norm.sqrt()


class RootTrace(torch.autograd.Function):
    """tr(A^1/2), with the derivative A^-1/2 / 2 of the exact root."""

    @staticmethod
    def forward(context, a):
        root, inverse = newton_schulz(a)
        context.save_for_backward(inverse)
        return root.trace()

    @staticmethod
    def backward(context, gradient):
        return gradient * context.saved_tensors[0] / 2


def wasserstein(x, target):
    """Squared W2 between Gaussians / C, as crowsonkb/style-transfer-pytorch defines it: the first
    term a mean over channels, the second a mean of the diagonal; roots by 12 Newton-Schulz steps."""
    (m, s), (n, t) = moments(x, 1e-4), moments(target, 1e-4)
    root, _ = newton_schulz(t)
    cross = RootTrace.apply(root @ s @ root)
    return F.mse_loss(m, n) + ((s + t).trace() - 2 * cross) / len(m)


def differences(image):
    return image[..., :, 1:] - image[..., :, :-1], image[..., 1:, :] - image[..., :-1, :]


def tv_l1(image):
    """Anisotropic total variation: sum of |dx| + |dy| over all channels."""
    return sum(d.abs().sum() for d in differences(image))


def tv_l2(image):
    """Sum of squared differences."""
    return sum(d.square().sum() for d in differences(image))


class Problem:
    """Loss terms of an image against a content and a style image."""

    def __init__(self, vgg, content, style):
        self.vgg = vgg
        with torch.no_grad():
            self.content_target = vgg.features(content.to(vgg.dtype), CONTENT_LAYER)[CONTENT_LAYER]
            self.style_target = vgg.features(style.to(vgg.dtype), "relu5_1")

    def terms(self, image):
        x = self.vgg.features(image, "relu5_1")
        t = self.style_target
        return {
            "content": F.mse_loss(x[CONTENT_LAYER], self.content_target),
            "style_gram_chw": {k: gram_mse(x[k], t[k], "chw") for k in STYLE_LAYERS},
            "style_gram_hw": {k: gram_mse(x[k], t[k], "hw") for k in STYLE_LAYERS},
            "style_gatys": {k: gatys_style(x[k], t[k]) for k in STYLE_LAYERS},
            "style_mean_std": {k: mean_std(x[k], t[k]) for k in STYLE_LAYERS},
            "style_wasserstein": {k: wasserstein(x[k], t[k]) for k in STYLE_LAYERS},
        }

    def content_and_style(self, image):
        """Content loss and the sum of the five Gram/CHW losses."""
        x = self.vgg.features(image, "relu5_1")
        content = F.mse_loss(x[CONTENT_LAYER], self.content_target)
        return content, sum(gram_mse(x[k], self.style_target[k], "chw") for k in STYLE_LAYERS)

    def neural_style(self, image):
        """The objective of neural-style: 5 content + 100 style + 1e-3 TV (L1, of 0-255 values)."""
        content, style = self.content_and_style(image)
        return 5 * content + 100 * style + 1e-3 * tv_l1(255 * image)


def gradient(function, image):
    x = image.clone().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]


# --- optimisers ------------------------------------------------------------------------


def run_adam(loss, start, steps, **options):
    """Losses before each of `steps` updates, and the image after the last one."""
    x = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([x], **options)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss(x)
        value.backward()
        losses.append(value.item())
        optimiser.step()
    return losses, x.detach()


def run_lbfgs(loss, start, **options):
    """One call of torch.optim.LBFGS.step: the loss of every closure call, the final image.

    Without line search, n iterations make n closure calls (the image after the last
    update is not evaluated).
    """
    x = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([x], **options)
    losses = []

    def closure():
        optimiser.zero_grad()
        value = loss(x)
        value.backward()
        losses.append(value.item())
        return value

    optimiser.step(closure)
    iterations = optimiser.state[x]["n_iter"]
    return losses, x.detach(), iterations


# Stopping criteria that never hold, so that all iterations are made.
NEVER_STOP = {"max_eval": 10**6, "tolerance_grad": 0.0, "tolerance_change": -1e30}


def lbfgs_options(lr=1.0):
    """The L-BFGS variants under test."""
    plain = {"lr": lr, "max_iter": 20, "history_size": 100, "line_search_fn": None, **NEVER_STOP}
    wolfe = {**plain, "lr": 1.0, "tolerance_change": 1e-9, "line_search_fn": "strong_wolfe"}
    return {"lbfgs": plain, "lbfgs5": {**plain, "history_size": 5}, "lbfgs_wolfe": wolfe}


def trajectory(run, start, deviation_limit, perturbation=1e-6):
    """`run(start)` in float64, with the deviations of the same in float32.

    `run` returns losses, final image and the number of iterations, in the dtype of its
    argument. The run from a start perturbed by normal noise of this standard deviation
    (relative to the largest element) shows whether the trajectory as such is stable.
    """
    losses, image, iterations = run(start.double())
    assert all(map(math.isfinite, losses)) and image.isfinite().all()
    assert losses[-1] < losses[0], losses
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    checks = {"float32": start.float(), "perturbed": start.double() + perturbation * start.abs().max() * noise}
    record = {"iterations": iterations, "evaluations": len(losses), "losses": losses}
    for name, other in checks.items():
        other_losses, other_image, _ = run(other)
        assert len(other_losses) == len(losses), (name, other_losses, losses)
        record[name] = {
            "image_deviation": deviation(other_image, image),
            "image_deviation_l2": ((other_image.double() - image).norm() / image.norm()).item(),
            # per evaluation, relative to the loss of that evaluation
            "loss_deviations": [float(f"{abs(a - b) / abs(b):.2g}") for a, b in zip(other_losses, losses)],
        }
        assert record[name]["image_deviation_l2"] <= deviation_limit, (name, record[name])
    return record, image


def deviation(a, b):
    return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()


# --- inputs ----------------------------------------------------------------------------


def smooth_image(height, width, seed):
    """Low-resolution noise, bilinearly enlarged, plus a little fine noise; all in (0.1, 0.9)."""
    g = torch.Generator().manual_seed(seed)
    low = torch.rand(1, 3, 5, 6, generator=g, dtype=torch.float64)
    low = F.interpolate(low, (height, width), mode="bilinear", align_corners=False)
    fine = torch.rand(1, 3, height, width, generator=g, dtype=torch.float64) - 0.5
    image = (0.15 + 0.7 * low + 0.08 * fine).float()
    # |d| has no derivative at 0, where implementations differ.
    assert all((d != 0).all() for d in differences(image))
    return image


def small_weights(width=4, seed=SEED):
    """He-initialised normal weights with small non-zero biases, torchvision's names."""
    g = torch.Generator().manual_seed(seed)
    weights, c_in = {}, 3
    for name in CONVS:
        c_out = channels(width)[int(name[0]) - 1]
        std = math.sqrt(2 / (9 * c_in))
        key = f"features.{TORCHVISION_INDEX[name]}"
        weights[f"{key}.weight"] = std * torch.randn(c_out, c_in, 3, 3, generator=g)
        weights[f"{key}.bias"] = 0.05 * torch.randn(c_out, generator=g)
        c_in = c_out
    return weights


def classifier_weights(c_in, seed=SEED + 1):
    """A fully connected layer such as follows the convolutions in whole VGG19 files."""
    g = torch.Generator().manual_seed(seed)
    return {
        "classifier.0.weight": 0.1 * torch.randn(10, c_in, generator=g),
        "classifier.0.bias": 0.1 * torch.randn(10, generator=g),
    }


def onnx_weights(path):
    """Convolution weights in graph order and the normalisation of an ONNX VGG19."""
    data = Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    model = onnx.load_model_from_string(data)
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    convs = [n for n in model.graph.node if n.op_type == "Conv"]
    assert len(convs) == len(CONVS), f"{len(convs)} convolutions instead of {len(CONVS)}"
    weights = {}
    for name, node in zip(CONVS, convs):
        for kind, source in zip(["weight", "bias"], node.input[1:]):
            weights[f"features.{TORCHVISION_INDEX[name]}.{kind}"] = torch.tensor(arrays[source])
    meta = {p.key: p.value for p in model.metadata_props}
    assert meta["input.range"] == "0..255" and meta["input.channels"] == "RGB", meta
    mean, std = ([float(v) for v in meta[f"normalization.{k}"].split(",")] for k in ("mean", "std"))
    return weights, {"scale": 255.0, "mean": mean, "std": std}


# --- ONNX files ------------------------------------------------------------------------

ONNX_SIZE = 32  # side of the fixed input, so that pool5 is 1x1 and the Gemm is valid


def onnx_graph(weights, classifier=True, every_relu=False):
    """VGG19 as an ONNX model with torchvision's names: Conv, Relu, MaxPool, then Flatten, Gemm."""
    nodes, x = [], "input"
    for block, count in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            name = f"{block}_{i}"
            key = f"features.{TORCHVISION_INDEX[name]}"
            nodes.append(helper.make_node(
                "Conv", [x, f"{key}.weight", f"{key}.bias"], [f"conv{name}"], f"conv{name}",
                dilations=[1, 1], group=1, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]))
            nodes.append(helper.make_node("Relu", [f"conv{name}"], [f"relu{name}"], f"relu{name}"))
            x = f"relu{name}"
        nodes.append(helper.make_node(
            "MaxPool", [x], [f"pool{block}"], f"pool{block}", kernel_shape=[2, 2], strides=[2, 2]))
        x = f"pool{block}"
    outputs = [n.output[0] for n in nodes if n.op_type == "Relu"] if every_relu else []
    if classifier:
        nodes.append(helper.make_node("Flatten", [x], ["flat"], "flatten", axis=1))
        nodes.append(helper.make_node(
            "Gemm", ["flat", "classifier.0.weight", "classifier.0.bias"], ["logits"], "fc6", transB=1))
        x = "logits"
    outputs.append(x)

    c_out = {f"{b}_{i}": c for b, (n, c) in enumerate(zip(BLOCKS, channels(4)), 1) for i in range(1, n + 1)}
    def shape(output):
        if output == "logits":
            return [1, 10]
        if output == "pool5":
            return [1, 32, 1, 1]
        side = ONNX_SIZE >> (int(output[4]) - 1)
        return [1, c_out[output[4:]], side, side]

    graph = helper.make_graph(
        nodes, "vgg19",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, ONNX_SIZE, ONNX_SIZE])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, shape(o)) for o in outputs],
        [numpy_helper.from_array(v.numpy(), k) for k, v in weights.items()])
    return helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)], producer_name="impasto")


def scramble(model):
    """The same network as a careless exporter might write it.

    Other names (as in the model zoo's vgg19-7.onnx), initialisers in random order and
    also listed as graph inputs, every other one as `float_data` instead of `raw_data`,
    one convolution's weights in Constant nodes, and a normalisation in the metadata.
    """
    model = copy.deepcopy(model)
    graph = model.graph
    rename = {"input": "data"}
    for i, name in enumerate(CONVS):
        for kind in ("weight", "bias"):
            rename[f"features.{TORCHVISION_INDEX[name]}.{kind}"] = f"vgg0_conv{i}_{kind}"
        rename[f"conv{name}"] = f"vgg0_conv{i}_fwd"
        rename[f"relu{name}"] = f"vgg0_relu{i}_fwd"
    for i in range(5):
        rename[f"pool{i + 1}"] = f"vgg0_pool{i}_fwd"
    rename |= {"flat": "flatten_60", "logits": "vgg0_dense0_fwd"}
    rename |= {f"classifier.0.{kind}": f"vgg0_dense0_{kind}" for kind in ("weight", "bias")}
    for node in graph.node:
        node.input[:] = [rename[n] for n in node.input]
        node.output[:] = [rename[n] for n in node.output]
        node.name = node.output[0]
    graph.name = "vgg0"
    graph.input[0].name = rename[graph.input[0].name]
    graph.output[0].name = rename[graph.output[0].name]

    tensors = [copy.deepcopy(t) for t in graph.initializer]
    order = torch.randperm(len(tensors), generator=torch.Generator().manual_seed(SEED)).tolist()
    del graph.initializer[:]
    constants = []
    for place, index in enumerate(order):
        name = rename[tensors[index].name]
        array = numpy_helper.to_array(tensors[index])
        tensor = numpy_helper.from_array(array, name)
        if place % 2:
            tensor = helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.flatten())
        if name in ("vgg0_conv7_weight", "vgg0_conv7_bias"):
            constants.append(helper.make_node("Constant", [], [name], f"{name}_constant", value=tensor))
        else:
            graph.initializer.append(tensor)
            graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    nodes = constants + [copy.deepcopy(n) for n in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    helper.set_model_props(model, {
        "normalization.mean": "123.68,116.779,103.939", "normalization.std": "1,1,1",
        "input.range": "0..255", "input.channels": "RGB"})
    return model


def check_onnx(model, weights, outputs):
    """The model is valid and computes what the network computes (no normalisation in the graph)."""
    from onnx.reference import ReferenceEvaluator

    onnx.checker.check_model(model, full_check=True)
    x = torch.rand(1, 3, ONNX_SIZE, ONNX_SIZE, generator=torch.Generator().manual_seed(SEED))
    plain = {"scale": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3}
    expected = Vgg(weights, plain, dtype=torch.float32).features(x)
    expected["logits"] = F.linear(
        expected["pool5"].flatten(1), weights["classifier.0.weight"], weights["classifier.0.bias"])
    values = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x.numpy()})
    assert len(values) == len(outputs)
    for name, value in zip(outputs, values):
        assert deviation(torch.tensor(value), expected[name]) < 1e-5, name


# --- output ----------------------------------------------------------------------------


def write(name, data):
    (DATA / name).write_bytes(data)


def write_tensors(name, tensors):
    for key, tensor in tensors.items():
        assert tensor.isfinite().all(), key
    write(name, safetensors_bytes({k: v.contiguous() for k, v in tensors.items()}))


def write_json(name, value):
    def plain(v):
        if isinstance(v, torch.Tensor):
            v = v.item()
        if isinstance(v, dict):
            return {k: plain(x) for k, x in v.items()}
        if isinstance(v, (list, tuple)):
            return [plain(x) for x in v]
        return v

    write(name, (json.dumps(plain(value), indent=1, allow_nan=False) + "\n").encode())


def write_pth(name, state, zip_format):
    """torch.save. Its legacy format contains memory addresses, so an equal file is kept."""
    path = DATA / name
    if path.exists():
        old = torch.load(path, weights_only=True)
        if old.keys() == state.keys() and all(torch.equal(old[k], v) for k, v in state.items()):
            return
    torch.save(state, path, _use_new_zipfile_serialization=zip_format)


def origin():
    return {
        "script": "tests/reference/make.py",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


TOLERANCES = {"features": 1e-4, "gradients": 1e-4, "losses": 1e-4, "trajectories": 1e-2}

# --- part 1: the small network ---------------------------------------------------------


def small_files():
    weights = small_weights()
    whole = weights | classifier_weights(weights["features.34.bias"].numel())
    write_tensors("small.safetensors", weights)
    write_tensors("small-f16.safetensors", {k: v.half() for k, v in weights.items()})
    write_tensors("small-bf16.safetensors", {k: v.bfloat16() for k, v in weights.items()})
    write_pth("small.pth", whole, zip_format=True)
    write_pth("small-legacy.pth", whole, zip_format=False)

    relus = [f"relu{name}" for name in CONVS]
    model = onnx_graph(whole)
    for name, graph, outputs in [
        ("small.onnx", model, ["logits"]),
        ("small-scrambled.onnx", scramble(model), ["logits"]),
        ("small-features.onnx", onnx_graph(weights, classifier=False, every_relu=True), relus + ["pool5"]),
    ]:
        check_onnx(graph, whole, outputs)
        write(name, graph.SerializeToString(deterministic=True))
    return weights


IMAGE_SEEDS = [1600, 1601, 1602]  # chosen for stable trajectories, see above


def small_reference(weights):
    content, style, start = (
        smooth_image(*size, seed) for size, seed in zip([(37, 46), (41, 35), (37, 46)], IMAGE_SEEDS))
    tensors = {"content": content, "style": style, "start": start}
    report = {
        "origin": origin(),
        "seed": SEED,
        "image_seeds": dict(zip(["content", "style", "start"], IMAGE_SEEDS)),
        "width": 4,
        "normalisation": TORCHVISION,
        "content_layer": CONTENT_LAYER,
        "style_layers": STYLE_LAYERS,
        "tolerances": TOLERANCES,
    }

    def values(dtype):
        """Every tensor and scalar that does not depend on an optimiser."""
        vgg = Vgg(weights, TORCHVISION, dtype=dtype)
        problem = Problem(vgg, content, style)
        x = start.to(dtype)
        f = vgg.features(x)
        tensors = {f"features.{k}": v for k, v in f.items() if k[:4] == "relu" or k in ("conv4_2", "pool4")}
        average = Vgg(weights, TORCHVISION, pool=F.avg_pool2d, dtype=dtype)
        tensors["avgpool.relu5_1"] = average.features(x, "relu5_1")["relu5_1"]
        for divide_by in ("chw", "hw", "none"):
            for layer in STYLE_LAYERS:
                tensors[f"gram.{divide_by}.{layer}"] = gram(f[layer], divide_by)
        for name, function in [
            ("content", lambda v: problem.content_and_style(v)[0]),
            ("style", lambda v: problem.content_and_style(v)[1]),
            ("mean_std", lambda v: sum(problem.terms(v)["style_mean_std"].values())),
            ("wasserstein", lambda v: sum(problem.terms(v)["style_wasserstein"].values())),
            ("tv_l1", tv_l1),
            ("tv_l2", tv_l2),
            ("total", problem.neural_style),
        ]:
            tensors[f"gradient.{name}"] = gradient(function, x)
        losses = problem.terms(x)
        losses["style_gram_chw_sum"] = sum(losses["style_gram_chw"].values())
        l1, l2 = tv_l1(x), tv_l2(x)
        losses["tv"] = {"l1_sum": l1, "l1_mean": l1 / x.numel(), "l2_sum": l2, "l2_mean": l2 / x.numel()}
        losses["total"] = problem.neural_style(x)
        return tensors, losses

    exact, report["losses"] = values(torch.float64)
    report["weights_of_total"] = {"content": 5, "style_gram_chw_sum": 100, "tv_l1_sum_of_0_255": 1e-3}
    tensors |= {k: v.float() for k, v in exact.items()}

    single, single_losses = values(torch.float32)
    report["float32"] = float32_deviations(single, exact, single_losses, report["losses"])

    # Trajectories of content + 1000 style + 0.5 TV (squared differences), variable in [0, 1].
    objective_weights = {"content": 1.0, "style_gram_chw_sum": 1000.0, "tv_l2_sum": 0.5}
    problems = {d: Problem(Vgg(weights, TORCHVISION, dtype=d), content, style) for d in (torch.float32, torch.float64)}

    def objective(x):
        c, s = problems[x.dtype].content_and_style(x)
        w = objective_weights
        return w["content"] * c + w["style_gram_chw_sum"] * s + w["tv_l2_sum"] * tv_l2(x)

    adam = {"lr": 0.02, "betas": [0.9, 0.99], "eps": 1e-8}
    record, image = trajectory(lambda x: (*run_adam(objective, x, 20, **adam), 20), start, 2e-3)
    report["trajectories"] = {"objective_weights": objective_weights, "adam": {"options": adam, **record}}
    tensors["adam.image"] = image.float()
    for name, options in lbfgs_options().items():
        record, image = trajectory(lambda x: run_lbfgs(objective, x, **options), start, 2e-3)
        report["trajectories"][name] = {"options": options, **record}
        tensors[f"{name}.image"] = image.float()

    # The same on an analytic function: extended Rosenbrock over pairs of consecutive elements.
    # Without line search lr is 0.5; with lr 1 the iterates explode on the way.
    def rosenbrock(x):
        a, b = x.reshape(-1, 2).unbind(1)
        return (100 * (b - a.square()).square() + (1 - a).square()).sum()

    point = torch.tensor([-1.2, 1.0, -1.0, 1.2, 0.5, -0.5], dtype=torch.float64).reshape(1, 1, 2, 3)
    tensors["rosenbrock.start"] = point
    report["rosenbrock"] = {
        "function": "sum over pairs (a, b) of consecutive elements: 100 (b - a^2)^2 + (1 - a)^2",
        "dtype": "float64",
    }
    for name, options in lbfgs_options(lr=0.5).items():
        record, image = trajectory(lambda x: run_lbfgs(rosenbrock, x, **options), point, 2e-3)
        report["rosenbrock"][name] = {"options": options, **record}
        tensors[f"rosenbrock.{name}"] = image

    write_tensors("small.reference.safetensors", tensors)
    write_json("small.reference.json", report)
    return report


def float32_deviations(single, exact, single_scalars, exact_scalars):
    """Largest deviation per group of tensors (the first part of the name), and over all scalars."""
    report = {}
    for key, value in single.items():
        group = key.split(".")[0] if not key.startswith("gradient") else key
        report[group] = max(report.get(group, 0.0), deviation(value, exact[key]))
    worst = 0.0

    def walk(a, b):
        nonlocal worst
        if isinstance(a, dict):
            for k in a:
                walk(a[k], b[k])
        elif isinstance(a, torch.Tensor):
            worst = max(worst, abs(a.item() - b.item()) / abs(b.item()))

    walk(single_scalars, exact_scalars)
    report["scalars"] = worst
    return report


# --- part 2: ImageNet weights ----------------------------------------------------------

SAMPLES = 512


def sample(tensor):
    """Every stride-th element of the flattened tensor, at most 512, and the stride."""
    stride = math.ceil(tensor.numel() / SAMPLES)
    return tensor.flatten()[::stride], stride


def imagenet_reference(path):
    weights, normalisation = onnx_weights(path)
    seeds = [2090, 2091, 2092]
    content, style, start = (
        smooth_image(*size, seed) for size, seed in zip([(53, 70), (61, 58), (53, 70)], seeds))
    tensors = {"content": content, "style": style, "start": start}
    report = {
        "origin": origin(),
        "seed": SEED,
        "image_seeds": dict(zip(["content", "style", "start"], seeds)),
        "weights": "vgg19-features-caffe.onnx, the original (Caffe) training of Simonyan and Zisserman",
        "normalisation": normalisation,
        "content_layer": CONTENT_LAYER,
        "style_layers": STYLE_LAYERS,
        "tolerances": TOLERANCES,
    }
    problems = {
        d: Problem(Vgg(weights, normalisation, dtype=d), content, style) for d in (torch.float32, torch.float64)
    }

    def values(dtype):
        problem, x = problems[dtype], start.to(dtype)
        tensors, strides, norms = {}, {"features": {}, "gram_chw": {}}, {}
        with torch.no_grad():
            f = problem.vgg.features(x, "relu5_4")
            for layer in [f"relu{name}" for name in CONVS]:
                tensors[f"features.{layer}"], strides["features"][layer] = sample(f[layer])
                norms[layer] = f[layer].norm()
            for layer in STYLE_LAYERS:
                tensors[f"gram.chw.{layer}"], strides["gram_chw"][layer] = sample(gram(f[layer], "chw"))
            losses = problem.terms(x)
            losses["style_gram_chw_sum"] = sum(losses["style_gram_chw"].values())
            losses["tv"] = {"l1_sum_of_0_255": tv_l1(255 * x)}
            losses["total"] = problem.neural_style(x)
        tensors["gradient.total"] = gradient(problem.neural_style, x)
        return tensors, strides, norms, losses

    exact, report["strides"], report["norms"], report["losses"] = values(torch.float64)
    report["weights_of_total"] = {"content": 5, "style_gram_chw_sum": 100, "tv_l1_sum_of_0_255": 1e-3}
    tensors |= {k: v.float() for k, v in exact.items()}
    single, _, single_norms, single_losses = values(torch.float32)
    report["float32"] = float32_deviations(
        single, exact, {"norms": single_norms, "losses": single_losses},
        {"norms": report["norms"], "losses": report["losses"]})

    # Trajectories of the neural-style objective, the variable being v = 255 image.
    def objective(v):
        return problems[v.dtype].neural_style(v / 255)

    v = start.double() * 255
    adam = {"lr": 1.0, "betas": [0.9, 0.999], "eps": 1e-8}
    record, image = trajectory(lambda x: (*run_adam(objective, x, 20, **adam), 20), v, 2e-3, 1e-7)
    report["trajectories"] = {"variable": "255 * image", "adam": {"options": adam, **record}}
    tensors["adam.image"] = (image / 255).float()
    # Of 54 triples of image seeds tried, none kept 20 iterations of L-BFGS in float32 within
    # 1e-3 (L2) of float64; these came closest, and stay within 1e-3 for 10 iterations. Compare
    # the later losses with a tolerance well above their recorded deviations.
    for name, iterations, limit in [("lbfgs10", 10, 1e-3), ("lbfgs", 20, 2e-2)]:
        options = {**lbfgs_options()["lbfgs"], "max_iter": iterations}
        record, image = trajectory(lambda x: run_lbfgs(objective, x, **options), v, limit, 1e-7)
        report["trajectories"][name] = {"options": options, **record}
        tensors[f"{name}.image"] = (image / 255).float()

    write_tensors("imagenet.reference.safetensors", tensors)
    write_json("imagenet.reference.json", report)
    return report


def summary(report):
    print("float32 deviations:", {k: f"{v:.1e}" for k, v in report["float32"].items()})
    for part in ("trajectories", "rosenbrock"):
        for name, t in report.get(part, {}).items():
            if isinstance(t, dict) and "losses" in t:
                print(f"{part}.{name}: loss {t['losses'][0]:.6g} -> {t['losses'][-1]:.6g}, "
                      f"{t['iterations']} iterations, {t['evaluations']} evaluations")
                for check in ("float32", "perturbed"):
                    c = t[check]
                    print(f"  {check}: image {c['image_deviation']:.1e}, L2 {c['image_deviation_l2']:.1e}, "
                          f"losses up to {max(c['loss_deviations']):.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", metavar="PATH.onnx[.gz]", help="VGG19 with ImageNet weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the order of summation depends on the number of threads
    torch.use_deterministic_algorithms(True)
    DATA.mkdir(exist_ok=True)
    summary(small_reference(small_files()))
    if arguments.weights:
        summary(imagenet_reference(arguments.weights))


if __name__ == "__main__":
    main()
