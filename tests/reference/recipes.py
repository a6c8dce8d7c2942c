"""The first loss of every recipe, computed with plain PyTorch from its source's own definition.

    python recipes.py        # writes ../data/recipes.reference.json

Images and the small network are those of `make.py`. Every function below spells out what one
published program computes; the only thing they share is the network, and the recipes by matching
have their formulas from `matching.py`. Weights are the programs' defaults. Computed in float64.
"""

import torch
import torch.nn.functional as F

import make
import matching
from make import CAFFE, STYLE_LAYERS, TORCHVISION, Vgg

CHANNELS = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}


def flat(features):
    return features.reshape(features.shape[1], -1)


def raw_gram(features):
    return flat(features) @ flat(features).T


class ReplicateFirst(Vgg):
    """The first convolution padded with the nearest pixel."""

    def features(self, image, until="pool5"):
        h, w = image.shape[2:]
        wide = F.pad(image, (1, 1, 1, 1), "replicate")
        # Only the first convolution may see the wider image, so the others start from its crop.
        n = self.normalisation
        mean = torch.tensor(n["mean"], dtype=self.dtype).view(1, 3, 1, 1)
        std = torch.tensor(n["std"], dtype=self.dtype).view(1, 3, 1, 1)
        x = (wide * n["scale"] - mean) / std
        x = F.conv2d(x, self.weights["features.0.weight"], self.weights["features.0.bias"])
        assert x.shape[2:] == (h, w)
        out = {"conv1_1": x, "relu1_1": F.relu(x)}
        x = out["relu1_1"]
        for block, count in enumerate(make.BLOCKS, 1):
            for i in range(1, count + 1):
                name = f"{block}_{i}"
                if name == "1_1":
                    continue
                key = f"features.{make.TORCHVISION_INDEX[name]}"
                x = F.conv2d(x, self.weights[f"{key}.weight"], self.weights[f"{key}.bias"], padding=1)
                out[f"conv{name}"] = x
                x = out[f"relu{name}"] = F.relu(x)
                if f"relu{name}" == until:
                    return out
            x = out[f"pool{block}"] = self.pool(x, 2, 2)
        return out


def neural_style(x, c, s, image):
    """jcjohnson/neural-style, neural-style-pt: Gram / CHW, mean squared errors, L1 variation of 0-255."""
    content = 5e0 * F.mse_loss(x["relu4_2"], c["relu4_2"])
    style = sum(1e2 * F.mse_loss(raw_gram(x[l]) / x[l].numel(), raw_gram(s[l]) / s[l].numel()) for l in STYLE_LAYERS)
    i = 255 * image
    tv = 1e-3 * ((i[..., 1:, :] - i[..., :-1, :]).abs().sum() + (i[..., :, 1:] - i[..., :, :-1]).abs().sum())
    return content, style, tv


def gatys(x, c, s, image):
    """leongatys/PytorchNeuralStyleTransfer: Gram / HW, weights 1e3 / n^2."""
    def g(f):
        return raw_gram(f) / (f.shape[2] * f.shape[3])
    content = 1e0 * F.mse_loss(x["relu4_2"], c["relu4_2"])
    return content, sum(1e3 / CHANNELS[l] ** 2 * F.mse_loss(g(x[l]), g(s[l])) for l in STYLE_LAYERS), None


def crowsonkb(x, c, s, image):
    """crowsonkb/style-transfer-pytorch: Wasserstein-2 of Gaussians, variation over nine points."""
    content = 0.015 * F.mse_loss(x["relu4_2"], c["relu4_2"])

    def gaussian(f):
        mean = flat(f).mean(1)
        cov = raw_gram(f) / (f.shape[2] * f.shape[3]) - mean[:, None] @ mean[None, :]
        return mean, cov + 1e-4 * torch.eye(len(mean), dtype=f.dtype)

    style = 0
    for layer, weight in zip(STYLE_LAYERS, [256, 64, 16, 4, 1]):
        (m, cov), (n, target) = gaussian(x[layer]), gaussian(s[layer])
        root, _ = make.newton_schulz(target)
        cross, _ = make.newton_schulz(root @ cov @ root)
        mean_difference = (m - n).square().mean()
        style = style + weight / 341 * (mean_difference + (target + cov - 2 * cross).diagonal().mean())

    p = F.pad(image, (1, 1, 1, 1), "replicate")
    inner, after, before, later = slice(1, -1), slice(2, None), slice(None, -1), slice(1, None)
    d1 = (p[..., inner, after] - p[..., inner, inner]).square().mean() / 3
    d2 = (p[..., after, inner] - p[..., inner, inner]).square().mean() / 3
    d3 = (p[..., later, later] - p[..., before, before]).square().mean() / 12
    d4 = (p[..., later, before] - p[..., before, later]).square().mean() / 12
    return content, style, 2.0 * 2 * (d1 + d2 + d3 + d4)


def anishathalye(x, c, s, image):
    """anishathalye/neural-style; tf.nn.l2_loss is half of the sum of squares."""
    def l2_loss(v):
        return v.square().sum() / 2
    content = 5e0 * (2 * l2_loss(x["relu4_2"] - c["relu4_2"]) / c["relu4_2"].numel())
    style = 0
    for l in STYLE_LAYERS:
        g, a = raw_gram(x[l]) / x[l].numel(), raw_gram(s[l]) / s[l].numel()
        style = style + (1 / 5) * 2 * l2_loss(g - a) / a.numel()
    i = 255 * image
    dy, dx = i[..., 1:, :] - i[..., :-1, :], i[..., :, 1:] - i[..., :, :-1]
    tv = 1e2 * 2 * (l2_loss(dy) / dy.numel() + l2_loss(dx) / dx.numel())
    return content, 5e2 * style, tv


def cysmith(x, c, s, image):
    """cysmith/neural-style-tf: conv4_2, average pooling."""
    f, p = x["conv4_2"], c["conv4_2"]
    n, m = p.shape[1], p.shape[2] * p.shape[3]
    content = 5e0 * (1 / (2 * n**0.5 * m**0.5)) * (f - p).square().sum()
    style = 0
    for l in STYLE_LAYERS:
        n = x[l].shape[1]
        # Its styles have the content's size, so that one M serves; else each has its own.
        g, a = (raw_gram(v) / (v.shape[2] * v.shape[3]) for v in (x[l], s[l]))
        style = style + 0.2 * (1 / (4 * n**2)) * (g - a).square().sum()
    i = 255 * image
    tv = 1e-3 * ((i[..., 1:, :] - i[..., :-1, :]).abs().sum() + (i[..., :, 1:] - i[..., :, :-1]).abs().sum())
    return content, 1e4 * (style / 5), tv


def pystiche(x, c, s, image):
    """pystiche: Gram / HW, mean squared errors, layer weights "mean"."""
    def g(f):
        return raw_gram(f) / (f.shape[2] * f.shape[3])
    content = 1e0 * F.mse_loss(x["relu4_2"], c["relu4_2"])
    return content, 1e3 * sum(F.mse_loss(g(x[l]), g(s[l])) / 5 for l in STYLE_LAYERS), None


def gordicaleksa(x, c, s, image):
    """gordicaleksa/pytorch-neural-style-transfer: Gram / CHW, summed squared errors, mean over layers."""
    content = 1e5 * F.mse_loss(x["relu4_2"], c["relu4_2"])
    style = 0
    for l in STYLE_LAYERS:
        style = style + F.mse_loss(raw_gram(x[l]) / x[l].numel(), raw_gram(s[l]) / s[l].numel(), reduction="sum")
    i = 255 * image
    tv = (i[..., :, :-1] - i[..., :, 1:]).abs().sum() + (i[..., :-1, :] - i[..., 1:, :]).abs().sum()
    return content, 3e4 * (style / 5), tv


def nnst(vgg, content, style, image):
    """nkolkin13/NeuralNeighborStyleTransfer: hypercolumns at the first scale, where those of the
    content alone are matched, with the style and its three rotations."""
    among = matching.candidates(vgg, style)
    indices, _, margin = matching.match(matching.positions(matching.hypercolumns(vgg, content)), among)
    assert margin > 1e-6, margin  # float32 has the same nearest
    return {"neighbors": matching.neighbours_loss(vgg, image, among[indices])}


def strotss(vgg, content, style, image):
    """nkolkin13/STROTSS: the first scale, from `image` with the content's finest band.

    The program draws pixels; here it is all of them. It reads the style at the position before a
    pixel; here, as the recipe does, between positions like the image. Parts of a sum, `sum/part`, have
    the weight that they have within it.
    """
    alpha = 16

    def columns(picture):
        h, w = picture.shape[2:]
        return matching.image_columns(vgg, picture, [[row, column] for row in range(h) for column in range(w)])

    x, c, s = (columns(v) for v in (image + matching.decompose(content, 1)[0], content, style))
    parts = {
        "content": alpha * matching.self_similarity(x, c),
        "transport": matching.remd(x, s),
        "moments": matching.moments(x, s),
        "palette": matching.palette(x[:, :3], s[:, :3]) / max(alpha, 1),
    }
    weighted = {"transport": sum(parts.values()) / (alpha + 2)}
    return weighted | {f"transport/{name}": value for name, value in parts.items()}


RECIPES = {
    "neural-style": (neural_style, Vgg, CAFFE, F.max_pool2d),
    "gatys": (gatys, Vgg, CAFFE, F.max_pool2d),
    "crowsonkb": (crowsonkb, ReplicateFirst, TORCHVISION, F.max_pool2d),
    "anishathalye": (anishathalye, Vgg, CAFFE, F.max_pool2d),
    "cysmith": (cysmith, Vgg, CAFFE, F.avg_pool2d),
    "pystiche": (pystiche, Vgg, TORCHVISION, F.max_pool2d),
    "gordicaleksa": (gordicaleksa, Vgg, CAFFE, F.max_pool2d),
}

# These read more of the pictures than one set of features, with torchvision's weights and zero padding.
BY_MATCHING = {"nnst": nnst, "strotss": strotss}


def main():
    weights = make.small_weights()
    sizes = [(37, 46), (41, 35), (37, 46)]
    images = [make.smooth_image(*size, seed).double() for size, seed in zip(sizes, make.IMAGE_SEEDS)]
    report = {"origin": {**make.origin(), "script": "tests/reference/recipes.py"}, "recipes": {}}
    for name, (losses, network, normalisation, pool) in RECIPES.items():
        vgg = network(weights, normalisation, pool=pool)
        content, style, image = images
        seen = [vgg.features(v, "relu5_1") for v in (image, content, style)]
        terms = dict(zip(["content", "style", "tv"], losses(*seen, image)))
        terms = {k: v.item() for k, v in terms.items() if v is not None}
        report["recipes"][name] = {
            "normalisation": "caffe" if normalisation is CAFFE else "torchvision",
            "weighted": terms,
            "total": sum(terms.values()),
        }
    for name, losses in BY_MATCHING.items():
        terms = losses(Vgg(weights, TORCHVISION), *images)
        terms = {k: v.item() for k, v in terms.items()}
        report["recipes"][name] = {
            "normalisation": "torchvision",
            "weighted": terms,
            "total": sum(v for k, v in terms.items() if "/" not in k),
        }
    # What happens to Adam's moments between two scales.
    resized = {}
    for mode in ("bicubic", "bilinear"):
        resized[mode] = F.interpolate(images[0], (52, 65), mode=mode, align_corners=False).flatten()[::97].tolist()
    report["resized_to_52_by_65_every_97th"] = resized
    make.write_json("recipes.reference.json", report)


if __name__ == "__main__":
    main()
