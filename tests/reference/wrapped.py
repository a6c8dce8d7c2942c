"""The small network as people save it: files for the Rust tests, made by PyTorch and ONNX.

    pip install -r requirements.txt
    python wrapped.py

Writes `../data/wrapped.tar.gz` with the first five convolutions of `small.safetensors` (to conv3_1)
in many names, nestings, strides, types and graphs, and `../data/wrapped.json` with what each file
holds: the input normalisation that it states (`null` if none) and how its values are rounded. What
an ONNX model computes before its first convolution is compared with that normalisation by ONNX's
reference evaluator.
"""

import argparse
import collections
import datetime
import gzip
import io
import json
import pathlib
import tarfile
import tempfile

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import TensorProto as T, helper as o, numpy_helper as n
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file, save_file

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
NAMES = ["1_1", "1_2", "2_1", "2_2", "3_1"]
POSITIONS = [0, 2, 5, 7, 10]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CAFFE = [123.68, 116.779, 103.939]


def weights():
    whole = load_file(DATA / "small.safetensors")
    return {f"features.{i}.{p}": whole[f"features.{i}.{p}"] for i in POSITIONS for p in ("weight", "bias")}


def renamed(sd, rule):
    return {rule(k): v for k, v in sd.items()}


def sequence(sd):
    """The network as torchvision builds it, with these weights."""
    layers, c = [], 3
    for name, i in zip(NAMES, POSITIONS):
        while len(layers) < i:
            layers.append(torch.nn.MaxPool2d(2, 2))
        weight = sd[f"features.{i}.weight"]
        layers += [torch.nn.Conv2d(c, weight.shape[0], 3, padding=1), torch.nn.ReLU(inplace=True)]
        c = weight.shape[0]
    model = torch.nn.Sequential(collections.OrderedDict(features=torch.nn.Sequential(*layers)))
    model.load_state_dict(sd)
    return model.eval()


def optimizer_state(sd):
    model = sequence(sd)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def slices(key):
    """The names of a network cut into slices, as in perceptual losses."""
    _, i, p = key.split(".")
    block = sum(int(i) >= start for start in (0, 5, 10))
    return f"slice{block}.{i}.{p}"


def layer_names(key):
    _, i, p = key.split(".")
    return f"conv{NAMES[POSITIONS.index(int(i))]}.{p}"


def pytorch_files(sd, folder):
    def save(name, value, **options):
        torch.save(value, folder / name, **options)

    save("data-parallel-features.pth", {"epoch": 1, "state_dict": renamed(sd, lambda k: k.replace("features.", "features.module."))})
    save("data-parallel.pth", renamed(sd, lambda k: "module." + k))
    save("model-state-dict.pth", {"epoch": 3, "model_state_dict": sd})
    save("deep.pth", {"run": {"parts": [{"lr": 0.1, "net": sd}], "seed": 7}})
    save("tuple.pth", (sd, 12))
    save("bare.pth", renamed(sd, lambda k: k[9:]))
    save("layer-names.pth", renamed(sd, layer_names))
    save("compiled.pth", renamed(sd, lambda k: "_orig_mod.module.encoder.vgg." + k))
    save("slices.pth", renamed(sd, slices))
    save("shifted.pth", renamed(sd, lambda k: f"{int(k.split('.')[1]) + 1}.{k.split('.')[2]}"))
    save("stated.pth", {"mean": torch.tensor(MEAN).view(3, 1, 1), "std": torch.tensor(STD).view(3, 1, 1), **renamed(sd, lambda k: "vgg." + k)})
    save("lightning.pth", {
        "state_dict": renamed(sd, lambda k: "model.backbone." + k) | {"model.head.weight": torch.zeros(10, 16), "decoder.0.weight": torch.zeros(3, 16, 3, 3)},
        "optimizer_states": [optimizer_state(sd)], "epoch": 4, "pytorch-lightning_version": "2.1.0",
        "hyper_parameters": argparse.Namespace(lr=1e-3, name="vgg"), "callbacks": {"best": np.float64(0.5)},
        "loops": {"date": datetime.datetime(2020, 1, 1), "seen": {1, 2}, "scores": collections.defaultdict(list, a=[1.0])},
    })
    save("unused.pth", {
        "classifier.0.weight": torch.randn(8, 4, generator=torch.Generator().manual_seed(1)).t(), "features.counter": torch.tensor(3),
        "mask": torch.tensor([True, False]), "spectrum": torch.zeros(2, dtype=torch.complex64), "table": torch.zeros(4, dtype=torch.int8),
        "graph": torch.eye(3).to_sparse(), "rows": torch.eye(3).to_sparse_csr(), "tiny": torch.zeros(2, dtype=torch.float8_e4m3fn),
        "quantised": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8), "wide": torch.zeros(2, dtype=torch.uint16),
        "empty": torch.zeros(0, 3, 3, 3), "meta": torch.zeros(2, 2, device="meta"), "array": np.zeros(3), "long": 2**80, **sd,
    })
    channels_last = {k: v.to(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in sd.items()}
    save("channels-last.pth", channels_last)
    save("any-strides.pth", {k: torch.stack([v, v], -1)[..., 1] for k, v in sd.items()})
    flat = torch.cat([torch.zeros(5)] + [v.flatten() for v in sd.values()])
    views, at = {}, 5
    for k, v in sd.items():
        views[k], at = flat[at:at + v.numel()].view(v.shape), at + v.numel()
    save("one-storage.pth", views)
    save("parameters.pth", {k: torch.nn.Parameter(v) for k, v in sd.items()})
    save("module.pt", sequence(sd))
    save("module-legacy.pt", sequence(sd), _use_new_zipfile_serialization=False)
    torch.jit.script(sequence(sd)).save(folder / "script.pt")
    save("protocol-4.pth", sd, pickle_protocol=4)
    save("protocol-5-legacy.pth", {"net": renamed(sd, lambda k: "module." + k), "step": torch.tensor(1), "mask": torch.tensor([True])},
         pickle_protocol=5, _use_new_zipfile_serialization=False)
    save("f64.pth", {k: v.double() for k, v in sd.items()})
    save("bf16.pth", {k: v.bfloat16() for k, v in sd.items()})
    save("f16-channels-last.pth", {k: v.half() for k, v in channels_last.items()})
    # Networks of other kinds and of two kinds.
    save("two-networks.pth", {"a": sd, "b": {k: v + 1 for k, v in sd.items()}})
    save("integers.pth", {k: (v * 100).to(torch.int8) for k, v in sd.items()})


def safetensors_files(sd, folder):
    save_file(renamed(sd, lambda k: "model.encoder." + k) | {"step": torch.tensor([3]), "mask": torch.tensor([True])}, folder / "prefixed.safetensors")
    keras = {}
    for name, i in zip(NAMES, POSITIONS):
        block, number = name.split("_")
        keras[f"block{block}_conv{number}/kernel:0"] = sd[f"features.{i}.weight"].permute(2, 3, 1, 0).contiguous()
        keras[f"block{block}_conv{number}/bias:0"] = sd[f"features.{i}.bias"]
    save_file(keras, folder / "keras-names.safetensors")
    slim = {}
    for name, i in zip(NAMES, POSITIONS):
        slim[f"vgg_19/conv{name[0]}/conv{name}/weights"] = sd[f"features.{i}.weight"].permute(2, 3, 1, 0).contiguous()
        slim[f"vgg_19/conv{name[0]}/conv{name}/biases"] = sd[f"features.{i}.bias"]
    save_file(slim | {"vgg_19/fc8/weights": torch.zeros(1, 1, 4, 5), "vgg_19/fc8/biases": torch.zeros(5)}, folder / "slim-names.safetensors")
    save_file({k: v.permute(0, 2, 3, 1).contiguous() if v.dim() == 4 else v for k, v in sd.items()}, folder / "channels-last-axes.safetensors")


class Graph:
    """An ONNX model of the network, with something before or around it."""

    def __init__(self, sd):
        self.sd, self.nodes, self.init, self.last = sd, [], [], "input"
        self.convolution = dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        self.padded = False

    def constant(self, value, name, kind=np.float32):
        self.init.append(n.from_array(np.asarray(value, kind), name))
        return name

    def add(self, operator, inputs, outputs=None, **attributes):
        output = f"x{len(self.nodes)}"
        self.nodes.append(o.make_node(operator, inputs, outputs or [output], **attributes))
        if outputs is None:
            self.last = output
        return output

    def channel(self, values):
        return np.array(values, np.float32).reshape(1, 3, 1, 1)

    def parameter(self, value, name):
        self.init.append(n.from_array(value, name))
        return name

    def save(self, path, opset=13, **options):
        for name, i in zip(NAMES, POSITIONS):
            if name in ("2_1", "3_1"):
                self.add("MaxPool", [self.last], kernel_shape=[2, 2], strides=[2, 2])
            parts = [self.parameter(self.sd[f"features.{i}.{p}"].numpy(), f"w{i}.{p}") for p in ("weight", "bias")]
            if self.padded:
                self.add("Pad", [self.last, "pads"])
            self.add("Conv", [self.last, *parts], **self.convolution)
            self.add("Relu", [self.last])
        io = lambda name, shape: o.make_tensor_value_info(name, T.FLOAT, shape)
        shape = options.pop("shape", [1, 3, 16, 12])
        graph = o.make_graph(self.nodes, "vgg", [io("input", shape)], [io(self.last, None)], self.init)
        model = o.make_model(graph, opset_imports=[o.make_opsetid("", opset)], ir_version=8)
        onnx.save(model, path, **options)
        return onnx.load(path)


def normalization(range, mean, std, bgr=False):
    return {"range": range, "mean": mean, "std": std, "bgr": bgr}


def check(model, sd, stated, last=False):
    """The model computes the network behind this normalisation."""
    image = torch.rand(1, 3, 16, 12, generator=torch.Generator().manual_seed(1)) * stated["range"]
    rows = image * stated.get("input_unit", 1)
    rows = rows.flip(1) if stated.get("input_bgr") else rows
    x = rows.numpy().transpose(0, 2, 3, 1) if last else rows.numpy()
    found = ReferenceEvaluator(model).run(None, {"input": np.ascontiguousarray(x)})[0]
    mean, std = (torch.tensor(stated[k]).view(3, 1, 1) for k in ("mean", "std"))
    x = (image - mean) / std
    with torch.no_grad():
        expected = sequence(sd)(x.flip(1) if stated["bgr"] else x)
    difference = np.abs(found - expected.numpy()).max() / expected.abs().max().item()
    assert difference < 1e-2, difference


def onnx_files(sd, folder):
    """The models, and the normalisation that each computes."""
    stated = {}

    def save(name, graph, normal=None, **options):
        model = graph.save(folder / name, **options)
        last = options.get("shape", [3, 0])[-1] == 3
        if name != "external.onnx":
            check(model, sd, normal or normalization(1.0, [0.0] * 3, [1.0] * 3), last)
        stated[name] = {k: v for k, v in normal.items() if not k.startswith("input")} if normal else None

    class Cast(Graph):
        def parameter(self, value, name):
            self.init.append(n.from_array(value.astype(np.float16), name))
            self.nodes.append(o.make_node("Cast", [name], [name + ".f32"], to=T.FLOAT))
            return name + ".f32"

    class Odd(Graph):
        """Weights behind Constant, Transpose, Reshape and Identity."""

        def parameter(self, value, name):
            if value.ndim == 1:
                self.nodes.append(o.make_node("Constant", [], [name], value=n.from_array(value.reshape(1, -1))))
                self.nodes.append(o.make_node("Reshape", [name, "flat"], [name + ".flat"]))
                return name + ".flat"
            self.init.append(n.from_array(value.transpose(2, 3, 1, 0).copy(), name))
            self.nodes.append(o.make_node("Identity", [name], [name + ".same"]))
            self.nodes.append(o.make_node("Transpose", [name + ".same"], [name + ".t"], perm=[3, 2, 0, 1]))
            return name + ".t"

    class Bfloat16(Graph):
        def parameter(self, value, name):
            bits = value.astype(ml_dtypes.bfloat16).view(np.uint16)
            self.init.append(o.make_tensor(name, T.BFLOAT16, value.shape, bits.tobytes(), raw=True))
            self.nodes.append(o.make_node("Cast", [name], [name + ".f32"], to=T.FLOAT))
            return name + ".f32"

    class Typed(Graph):
        """Half precision as integers in the field for those."""

        def parameter(self, value, name):
            tensor = onnx.TensorProto(name=name, data_type=T.FLOAT16, dims=value.shape)
            tensor.int32_data.extend(int(v) for v in value.astype(np.float16).view(np.uint16).ravel())
            self.init.append(tensor)
            self.nodes.append(o.make_node("Cast", [name], [name + ".f32"], to=T.FLOAT))
            return name + ".f32"

    save("f16-cast.onnx", Cast(sd))
    save("bf16-cast.onnx", Bfloat16(sd))
    save("f16-typed.onnx", Typed(sd))
    g = Odd(sd)
    g.constant([-1], "flat", np.int64)
    save("constants.onnx", g)
    save("external.onnx", Graph(sd), save_as_external_data=True, location="external.bin", size_threshold=0)

    g = Graph(sd)
    g.convolution = dict(kernel_shape=[3, 3], auto_pad="SAME_UPPER")
    save("auto-pad.onnx", g)
    g = Graph(sd)
    g.convolution, g.padded = dict(kernel_shape=[3, 3]), True
    g.constant([0, 0, 1, 1, 0, 0, 1, 1], "pads", np.int64)
    save("pad-nodes.onnx", g)

    g = Graph(sd)
    g.add("Sub", [g.last, g.constant(g.channel(CAFFE), "mean")])
    g.add("Div", [g.last, g.constant(g.channel([58.4, 57.1, 57.4]), "std")])
    save("normalised-255.onnx", g, normalization(255.0, CAFFE, [58.4, 57.1, 57.4]))

    g = Graph(sd)
    g.add("Sub", [g.last, g.constant(np.array(MEAN, np.float32).reshape(3, 1, 1), "mean")])
    g.add("Div", [g.last, g.constant(np.array(STD, np.float32).reshape(3, 1, 1), "std")])
    save("normalised-1.onnx", g, normalization(1.0, MEAN, STD))

    g = Graph(sd)  # 255 x - mean, with the numbers on the left
    g.add("Mul", [g.constant(255.0, "factor"), g.last])
    g.add("Add", [g.constant(g.channel([-m for m in CAFFE]), "mean"), g.last])
    save("normalised-mul-add.onnx", g, normalization(255.0, CAFFE, [1.0] * 3) | {"input_unit": 1 / 255})

    g = Graph(sd)
    g.add("Div", [g.last, g.constant(255.0, "factor")])
    g.add("Sub", [g.last, g.constant(g.channel(MEAN), "mean")])
    g.add("Mul", [g.last, g.constant(g.channel([1 / s for s in STD]), "inverse")])
    save("normalised-div-sub-mul.onnx", g, normalization(255.0, [255 * m for m in MEAN], [255 * s for s in STD]))

    g = Graph(sd)
    g.constant([1.0] * 3, "scale"), g.constant([0.0] * 3, "shift"), g.constant(MEAN, "mean"), g.constant([s * s for s in STD], "var")
    g.add("BatchNormalization", [g.last, "scale", "shift", "mean", "var"], epsilon=1e-12)
    save("normalised-batch-norm.onnx", g, normalization(1.0, MEAN, STD), opset=15)

    g = Graph(sd)  # a convolution of one pixel that turns the colours round and subtracts the mean
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[[0, 1, 2], [2, 1, 0]] = 255.0
    g.add("Conv", [g.last, g.constant(kernel, "k"), g.constant([-m for m in CAFFE[::-1]], "b")])
    save("normalised-conv.onnx", g, normalization(255.0, CAFFE, [1.0] * 3, True) | {"input_unit": 1 / 255})

    g = Graph(sd)
    g.constant([2, 1, 0], "order", np.int64)
    g.add("Gather", [g.last, "order"], axis=1)
    g.add("Sub", [g.last, g.constant(g.channel(CAFFE[::-1]), "mean")])
    save("bgr-gather.onnx", g, normalization(255.0, CAFFE, [1.0] * 3, True))

    g = Graph(sd)
    g.add("Sub", [g.last, g.constant(g.channel(CAFFE), "mean")])
    g.constant([1, 1, 1], "sizes", np.int64)
    g.add("Split", [g.last, "sizes"], ["r", "g", "b"], axis=1)
    g.add("Concat", ["b", "g", "r"], axis=1)
    save("bgr-split.onnx", g, normalization(255.0, CAFFE, [1.0] * 3, True))

    g = Graph(sd)
    for name, value in [("starts", [-1]), ("ends", [-10]), ("axes", [1]), ("steps", [-1])]:
        g.constant(value, name, np.int64)
    g.add("Slice", [g.last, "starts", "ends", "axes", "steps"])
    g.add("Sub", [g.last, g.constant(g.channel(CAFFE[::-1]), "mean")])
    save("bgr-slice.onnx", g, normalization(255.0, CAFFE, [1.0] * 3, True))

    g = Graph(sd)  # the input itself is B, G, R, which only the mean tells
    g.add("Sub", [g.last, g.constant(g.channel(CAFFE[::-1]), "mean")])
    save("bgr-input.onnx", g, normalization(255.0, CAFFE, [1.0] * 3, True) | {"input_bgr": True})

    g = Graph(sd)
    g.add("Sub", [g.last, g.constant(np.array(CAFFE, np.float32), "mean")])
    g.add("Transpose", [g.last], perm=[0, 3, 1, 2])
    save("channels-last-input.onnx", g, normalization(255.0, CAFFE, [1.0] * 3), shape=[1, 16, 12, 3])

    # What is not a normalisation.
    for name, operator in [("refused-resize", "GlobalAveragePool"), ("refused-sigmoid", "Sigmoid")]:
        g = Graph(sd)
        g.add(operator, [g.last])
        g.save(folder / f"{name}.onnx")
    g = Graph(sd)
    g.add("Sub", [g.constant(1.0, "one"), g.last])
    g.save(folder / "refused-negative.onnx")
    g = Graph(sd)
    g.constant([1, 1, 1], "order", np.int64)
    g.add("Gather", [g.last, "order"], axis=1)
    g.save(folder / "refused-grey.onnx")
    return stated


def pack(folder):
    """The files as a tar archive that comes out the same at every run."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as zipped:
        with tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for path in sorted(folder.iterdir()):
                entry = tarfile.TarInfo(path.name)
                entry.size = path.stat().st_size
                archive.addfile(entry, path.open("rb"))
    (DATA / "wrapped.tar.gz").write_bytes(packed.getvalue())


def main():
    torch.manual_seed(0)
    sd = weights()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        pytorch_files(sd, folder)
        safetensors_files(sd, folder)
        stated = onnx_files(sd, folder)
        stated["stated.pth"] = normalization(1.0, MEAN, STD)
        report = {}
        for path in sorted(folder.iterdir()):
            name = path.name
            if name.startswith(("refused", "two-", "integers")) or name.endswith(".bin"):
                continue
            rounding = "f16" if name.startswith("f16") else "bf16" if name.startswith("bf16") else "none"
            report[name] = {"rounding": rounding, "normalization": stated.get(name)}
        pack(folder)
    (DATA / "wrapped.json").write_text(json.dumps(report, indent=1) + "\n")
    print(len(report), "files", (DATA / "wrapped.tar.gz").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
