"""Style by matching, computed with plain PyTorch from the published definitions.

    python matching.py       # writes ../data/matching.reference.safetensors and .json

Neural neighbours (NNST): Kolkin, Kucera, Paris, Sykora, Shechtman, Shakhnarovich 2022, arXiv
2203.13215, and the program nkolkin13/NeuralNeighborStyleTransfer. STROTSS: Kolkin, Salavon,
Shakhnarovich 2019, arXiv 1904.12785, and the program nkolkin13/STROTSS. Every docstring names the
function whose formula it states; the code here is written from the formulas.

The small network is that of `make.py`, with torchvision's normalisation and zero padding, as both
programs have it; its channels (4, 8, 16, 32, 32) are what counts as a layer's number of channels.
From stored float32 pictures everything is computed in float64; "float32" in the JSON file says how
far the same computation in float32 is from that, as in `make.py`.

A nearest neighbour jumps where two candidates are equally near, and the gradient with it. The
seeds of the pictures were chosen, from 50 tried, so that noise of 3e-7 in the picture moves no
element of a gradient by more than 5e-5 of the largest ("perturbed" in the JSON file), and so that
the nearest is nearer than the second by more than float32 rounds ("least_margin"; the final pass has
thousands of positions, among them ties between candidates that pull the same way).
"""

import torch
import torch.nn.functional as F

import make
from make import CONVS, TORCHVISION, Vgg, deviation

CHECK_TOLERANCE = 6e-8  # of values known to seven digits

SIZES = {"content": (39, 50), "other": (39, 50), "image": (39, 50), "style": (45, 40)}
IMAGE_SEEDS = {"content": 5116, "other": 5117, "image": 5118, "style": 5119}
CONTENT_KEPT = 0.75
STRIDE = 7  # gradients and final images are stored as every seventh element; widths are no multiples


# --- distances -------------------------------------------------------------------------


def positions(features):
    """[1, C, H, W] as rows [H*W, C], row by row of the picture."""
    return features[0].flatten(1).T


def cosine_distances(x, y):
    """1 - cos between every row of x and every row of y (`pairwise_distances_cos` of both programs)."""
    return 1 - (x / x.norm(dim=1, keepdim=True)) @ (y / y.norm(dim=1, keepdim=True)).T


def centred(x):
    return x - x.mean(0, keepdim=True)


def centred_distances(x, y):
    """Each set less its own mean (NNST, `pairwise_distances_cos_center`)."""
    return cosine_distances(centred(x), centred(y))


def least_margin(distances, dim=1):
    """How much nearer the nearest is than the second, at the position where that is least."""
    two = distances.detach().topk(2, dim=dim, largest=False).values
    return (two.select(dim, 1) - two.select(dim, 0)).min().item()


# --- neural neighbours -----------------------------------------------------------------

# NNST's VGG16 has three convolutions in blocks 3 and 4; VGG19 has these and a fourth.
NEIGHBOUR_LAYERS = [f"relu{name}" for name in CONVS if name[0] < "5" and name[2] < "4"]


def hypercolumns(vgg, image):
    """Each layer over its number of channels, at a quarter of the sides, one after the other
    (NNST, `phi_cat`; corners aligned as in `scl_spatial`). [1, C, H // 4, W // 4]"""
    features = vgg.features(image, NEIGHBOUR_LAYERS[-1])
    quarter = (image.shape[2] // 4, image.shape[3] // 4)
    return torch.cat([
        F.interpolate(features[layer] / features[layer].shape[1], quarter, mode="bilinear", align_corners=True)
        for layer in NEIGHBOUR_LAYERS
    ], 1)


def rotations(image):
    """By 0, 90, 180 and 270 degrees counter-clockwise.

    NNST (`extract_feats`) has them in the order 0, 270, 180, 90 and transposes what it sees of the
    second and the fourth, which only orders the candidates.
    """
    return [torch.rot90(image, k, (2, 3)) for k in range(4)]


def candidates(vgg, style):
    """Hypercolumns of the rotated pictures [N, C], each row by row of its own picture."""
    return torch.cat([positions(hypercolumns(vgg, v)) for v in rotations(style)])


def match(query, among):
    """The nearest candidate of each query and its distance (NNST, `replace_features`)."""
    distances = centred_distances(query, among)
    nearest = distances.min(1)
    return nearest.indices, nearest.values, least_margin(distances)


def neighbours_loss(vgg, image, targets):
    """Mean of 1 - t.f / (|t| |f|), nothing centred (NNST, `optimize_output_im`).

    There both squared norms are clamped to at least 1e-8, which is never reached here.
    """
    f = positions(hypercolumns(vgg, image))
    assert min(f.square().sum(1).min(), targets.square().sum(1).min()) > 1e-6
    return (1 - (f * targets).sum(1) / (f.norm(dim=1) * targets.norm(dim=1))).mean()


class FinalPass:
    """Each layer apart and at its own resolution (NNST, `optimize_output_im` with `final_pass`).

    `grids` maps a layer to (stride, first row, first column); without it every position counts.
    NNST samples the style's four rotations laid side by side, the second and the fourth transposed,
    as if they were one picture; here each is sampled by the same grid in its own frame. Where NNST
    does not sample (a layer of at most 64 positions a side) it compares the style with what it
    sampled of the layer before; here every layer is compared with itself.
    """

    def __init__(self, vgg, style, grids=None):
        self.vgg, self.grids = vgg, grids or {}
        seen = [vgg.features(v, NEIGHBOUR_LAYERS[-1]) for v in rotations(style)]
        self.style = {l: torch.cat([self.sampled(l, v[l]) for v in seen]) for l in NEIGHBOUR_LAYERS}

    def sampled(self, layer, features):
        stride, top, left = self.grids.get(layer, (1, 0, 0))
        return positions(features[:, :, top::stride, left::stride])

    def layers(self, image):
        """The loss of every layer. The gradient passes through the mean of the image's positions."""
        features = self.vgg.features(image, NEIGHBOUR_LAYERS[-1])
        return {
            layer: centred_distances(self.sampled(layer, features[layer]), self.style[layer]).min(1).values.mean()
            for layer in NEIGHBOUR_LAYERS
        }

    def total(self, image):
        return sum(self.layers(image).values())


# --- STROTSS ---------------------------------------------------------------------------

# RGB and the ReLUs 1, 3, 6, 8, 11, 13, 15, 22, 29 of VGG16; how often the sides were halved.
STROTSS_LAYERS = {
    "rgb": 0, "relu1_1": 0, "relu1_2": 0, "relu2_1": 1, "relu2_2": 1,
    "relu3_1": 2, "relu3_2": 2, "relu3_3": 2, "relu4_3": 3, "relu5_3": 4,
}


def strotss_features(vgg, image):
    features = vgg.features(image, "relu5_3")
    return {layer: image if layer == "rgb" else features[layer] for layer in STROTSS_LAYERS}


def between(features, row, column):
    """Bilinear values [N, C] at real coordinates, which the last row and column bound."""
    _, _, h, w = features.shape
    row, column = row.clamp(0, h - 1), column.clamp(0, w - 1)
    top, left = row.floor().long(), column.floor().long()
    bottom, right = (top + 1).clamp(max=h - 1), (left + 1).clamp(max=w - 1)
    down, across = row - top, column - left
    f = features[0]
    upper = (1 - across) * f[:, top, left] + across * f[:, top, right]
    lower = (1 - across) * f[:, bottom, left] + across * f[:, bottom, right]
    return ((1 - down) * upper + down * lower).T


def image_columns(vgg, image, where):
    """At pixels (row, column): layers between their positions at pixel / 2^k (STROTSS,
    `spatial_feature_extract`, which appends the coordinates; no loss takes them)."""
    where = torch.tensor(where, dtype=image.dtype)
    return torch.cat([
        between(features, where[:, 0] / 2**halvings, where[:, 1] / 2**halvings)
        for features, halvings in zip(strotss_features(vgg, image).values(), STROTSS_LAYERS.values())
    ], 1)


def style_columns(vgg, style, where):
    """At pixels (row, column): layers at the position floor(pixel / 2^k), the last at most (STROTSS,
    `forward_cat`, which halves, bounds and truncates from layer to layer: the same)."""
    where, out = torch.tensor(where), []
    for features, halvings in zip(strotss_features(vgg, style).values(), STROTSS_LAYERS.values()):
        row = (where[:, 0] // 2**halvings).clamp(max=features.shape[2] - 1)
        column = (where[:, 1] // 2**halvings).clamp(max=features.shape[3] - 1)
        out.append(features[0][:, row, column].T)
    return torch.cat(out, 1)


def both_means(distances):
    """Mean over the rows of the least in each, and over the columns."""
    return distances.min(1).values.mean(), distances.min(0).values.mean()


def remd(x, y):
    """Relaxed earth mover's distance (STROTSS, `remd_loss`)."""
    return torch.max(*both_means(cosine_distances(x, y)))


def moments(x, y):
    """Means and covariances, these over n and not n - 1 (STROTSS, `moment_loss`)."""
    def covariance(v):
        return centred(v).T @ centred(v) / len(v)
    return (x.mean(0) - y.mean(0)).abs().mean() + (covariance(x) - covariance(y)).abs().mean()


DECORRELATED = [
    [0.577350, 0.577350, 0.577350],
    [-0.577350, 0.788675, -0.211325],
    [-0.577350, -0.211325, 0.788675],
]


def palette_distances(x, y):
    """Cosine and Euclidean distances of colours (STROTSS, `remd_loss` of three channels with
    `rgb_to_yuv_pc`; the squares are bounded and then divided by 3, `pairwise_distances_sq_l2`)."""
    matrix = torch.tensor(DECORRELATED, dtype=x.dtype)
    x, y = x @ matrix.T, y @ matrix.T
    squares = (x[:, None] - y[None]).square().sum(2)
    return cosine_distances(x, y) + (squares.clamp(1e-5, 1e5) / 3).sqrt()


def palette(x, y):
    return torch.max(*both_means(palette_distances(x, y)))


def self_similarity(x, c):
    """How differently near the positions are to each other (STROTSS, `dp_loss`): distances over the
    sum of their column, the mean of all absolute differences times the number of positions. The
    gradient passes through the sums."""
    def relative(v):
        d = cosine_distances(v, v)
        return d / d.sum(0, keepdim=True)
    return (relative(x) - relative(c)).abs().mean() * len(x)


class Strotss:
    """All terms (STROTSS, `gen_remd_dp_objective_guided` without guidance)."""

    def __init__(self, vgg, content, style, image_positions, style_positions):
        self.vgg, self.where = vgg, image_positions
        self.content = image_columns(vgg, content, image_positions)
        self.style = style_columns(vgg, style, style_positions)

    def columns(self, image):
        return image_columns(self.vgg, image, self.where)

    def terms(self, image):
        x = self.columns(image)
        return {
            "remd": remd(x, self.style),
            "moments": moments(x, self.style),
            "palette": palette(x[:, :3], self.style[:, :3]),
            "self_similarity": self_similarity(x, self.content),
        }

    def total(self, image, alpha):
        t = self.terms(image)
        style = t["remd"] + t["moments"] + t["palette"] / max(alpha, 1)
        return (alpha * t["self_similarity"] + style) / (alpha + 2)


def random_positions(size, count, seed):
    """The corners and other pixels, none twice."""
    h, w = size
    corners = [0, w - 1, (h - 1) * w, h * w - 1]
    order = torch.randperm(h * w, generator=torch.Generator().manual_seed(seed)).tolist()
    pixels = corners + [p for p in order if p not in corners][:count - len(corners)]
    return [[p // w, p % w] for p in pixels]


# --- Laplacian pyramid -----------------------------------------------------------------


def resized(image, size):
    return F.interpolate(image, size, mode="bilinear", align_corners=False)


def decompose(image, levels):
    """Bands, the finest first, and the rest (NNST, `dec_lap_pyr`).

    NNST fails where a side becomes 0; here a picture with a side below 2 is not halved any more, so
    there are at most `levels` bands.
    """
    bands = []
    while len(bands) < levels and min(image.shape[2:]) >= 2:
        h, w = image.shape[2:]
        half = resized(image, (h // 2, w // 2))
        bands.append(image - resized(half, (h, w)))
        image = half
    return [*bands, image]


def synthesise(pyramid):
    """NNST, `syn_lap_pyr`."""
    image = pyramid[-1]
    for band in pyramid[-2::-1]:
        image = band + resized(image, tuple(band.shape[2:]))
    return image


def pyramid_sizes(height, width, levels):
    """Height and width of each band and of the rest."""
    return [list(v.shape[2:]) for v in decompose(torch.zeros(1, 1, height, width), levels)]


def descend(loss, start, levels, steps, optimiser, **options):
    """Losses before each step on the coefficients and after the last; the last image.

    (Both programs return the image from before their last step.)
    """
    variables = [v.clone().requires_grad_() for v in decompose(start, levels)]
    optimiser = optimiser(variables, **options)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss(synthesise(variables))
        value.backward()
        losses.append(value.item())
        optimiser.step()
    image = synthesise(variables).detach()
    return losses, loss(image).item(), image


# --- values by hand --------------------------------------------------------------------


def check_values():
    """Small matrices; rows are positions."""
    def matrix(rows):
        return torch.tensor(rows, dtype=torch.float64)

    x, y = matrix([[1, 0], [0, 1], [1, 1]]), matrix([[1, 0], [1, 1]])
    c, z = matrix([[1, 2], [3, 1], [0, 1]]), matrix([[3, 0], [0, 1], [1, 2]])
    indices, distances, _ = match(x, z)
    values = {
        "remd": remd(x, y).item(),
        "moments": moments(x, y).item(),
        "self_similarity": self_similarity(x, c).item(),
        "matches": indices.tolist(),
        "matches_mean_distance": distances.mean().item(),
        # The loss that neural neighbours descend on once these matches are the targets.
        "matches_neighbours_loss": cosine_distances(x, z[indices]).diagonal().mean().item(),
    }
    known = {
        "remd": 0.0976311, "moments": 0.3680556, "self_similarity": 0.5854852, "matches_mean_distance": 0.2715659}
    for name, value in known.items():
        assert abs(values[name] - value) <= CHECK_TOLERANCE, (name, values[name], value)
    assert values["matches"] == [0, 1, 2]
    return {"x": x.tolist(), "y": y.tolist(), "content": c.tolist(), "style": z.tolist(), **values}


# --- output ----------------------------------------------------------------------------

COLUMNS = [[0, 0], [0, 11], [8, 0], [8, 11], [3, 7], [5, 2]]  # hypercolumns that are stored

# The final pass sees the first rows and columns of two pictures: fewer positions, fewer ties.
FINAL_IMAGE, FINAL_STYLE = (28, 36), (30, 26)
FINAL_GRIDS = {
    "whole": {},
    # One grid for every layer.
    "grid": {layer: (2, 1, 0) for layer in NEIGHBOUR_LAYERS},
    # Strides by the size of the layer, as in NNST, where it is longest side // 64.
    "grids": {layer: {"1": (3, 2, 1), "2": (2, 1, 0), "3": (2, 0, 1), "4": (1, 0, 0)}[layer[4]]
              for layer in NEIGHBOUR_LAYERS},
}

IMAGE_POSITIONS, STYLE_POSITIONS = 48, 60
ALPHAS = [16, 0.5]
LEVELS = [3, 8]
ADAM = {"lr": 2e-3, "betas": [0.9, 0.999], "eps": 1e-8}
RMSPROP = {"lr": 2e-3, "alpha": 0.99, "eps": 1e-8}
PYRAMID_SIZE, PYRAMID_SEEDS = (19, 27), (5100, 5101)


def pictures():
    return {name: make.smooth_image(*SIZES[name], IMAGE_SEEDS[name]) for name in SIZES}


def sample(tensor):
    return tensor.flatten()[::STRIDE]


def values(dtype, noise=0.0):
    """Every tensor and every number, computed in `dtype`, and apart from them what is not a real number
    or says how near a jump is. The noise is added to the image whose losses and gradients these are."""
    vgg = Vgg(make.small_weights(), TORCHVISION, dtype=dtype)
    content, other, image, style = (v.to(dtype) for v in pictures().values())
    image = image + noise * torch.randn(image.shape, generator=torch.Generator().manual_seed(make.SEED), dtype=dtype)
    tensors, numbers, discrete = {}, {}, {}

    def gradient(name, function, x, place):
        value = make.gradient(function, x)
        tensors[f"gradient.{name}"] = sample(value)
        place["gradient_norm"] = value.norm()

    def store(name, image, place):
        tensors[f"{name}.image"] = sample(image)
        place["image_norm"] = image.norm()

    # 1. Hypercolumns.
    columns = hypercolumns(vgg, image)
    tensors["hypercolumns.columns"] = torch.stack([columns[0, :, r, c] for r, c in COLUMNS])
    discrete["hypercolumns"] = {"shape": list(columns.shape)}
    numbers["hypercolumns"] = {"sum": columns.sum(), "sum_of_squares": columns.square().sum()}

    # 2. Matches.
    query = positions(hypercolumns(vgg, CONTENT_KEPT * content + (1 - CONTENT_KEPT) * other))
    among = candidates(vgg, style)
    indices, distances, margin = match(query, among)
    tensors |= {"matches.query_mean": query.mean(0), "matches.candidate_mean": among.mean(0)}
    tensors["matches.distances"] = distances
    discrete["matches"] = {"indices": indices.tolist(), "candidates": len(among), "least_margin": margin}
    numbers["matches"] = {"mean_distance": distances.mean()}
    targets = among[indices]

    # 3. The loss with these targets.
    def neighbours(x):
        return neighbours_loss(vgg, x, targets)

    numbers["neighbours"] = {"loss": neighbours(image)}
    gradient("neighbours", neighbours, image, numbers["neighbours"])

    # 4. The final pass.
    part = image[..., :FINAL_IMAGE[0], :FINAL_IMAGE[1]]
    style_part = style[..., :FINAL_STYLE[0], :FINAL_STYLE[1]]
    numbers["final"] = {}
    for name, grids in FINAL_GRIDS.items():
        final = FinalPass(vgg, style_part, grids)
        layers = final.layers(part)
        numbers["final"][name] = {"layers": layers, "total": sum(layers.values())}
        gradient(f"final.{name}", final.total, part, numbers["final"][name])

    # 5. STROTSS.
    where = random_positions(SIZES["image"], IMAGE_POSITIONS, make.SEED)
    style_where = random_positions(SIZES["style"], STYLE_POSITIONS, make.SEED + 1)
    strotss = Strotss(vgg, content, style, where, style_where)
    x = strotss.columns(image)
    tensors["strotss.image_columns"] = x[:8]
    tensors["strotss.style_columns"] = strotss.style[:8]
    numbers["strotss"] = {"gradient_norms": {}, "terms": strotss.terms(image), "totals": {}}
    discrete["strotss"] = {"image_positions": where, "style_positions": style_where}
    numbers["strotss"]["both_means"] = {
        "remd": both_means(cosine_distances(x, strotss.style)),
        "palette": both_means(palette_distances(x[:, :3], strotss.style[:, :3])),
    }
    discrete["strotss"]["least_margin"] = {
        name: min(least_margin(d, 0), least_margin(d, 1)) for name, d in [
            ("remd", cosine_distances(x, strotss.style)),
            ("palette", palette_distances(x[:, :3], strotss.style[:, :3]))]}
    for name in numbers["strotss"]["terms"]:
        norm = {}
        gradient(f"strotss.{name}", lambda v: strotss.terms(v)[name], image, norm)
        numbers["strotss"]["gradient_norms"][name] = norm["gradient_norm"]
    for alpha in ALPHAS:
        norm = {}
        numbers["strotss"]["totals"][f"{alpha}"] = strotss.total(image, alpha)
        gradient(f"strotss.total_{alpha}", lambda v: strotss.total(v, alpha), image, norm)
        numbers["strotss"]["gradient_norms"][f"total_{alpha}"] = norm["gradient_norm"]

    # 6. The pyramid, its adjoint, and steps on its coefficients.
    picture, weights = (make.smooth_image(*PYRAMID_SIZE, seed) for seed in PYRAMID_SEEDS)
    picture, weights = picture.to(dtype), (weights - 0.5).to(dtype)
    tensors |= {"pyramid.picture": picture, "pyramid.weights": weights}
    discrete["pyramid"] = {}
    for levels in LEVELS:
        pyramid = [v.requires_grad_() for v in decompose(picture, levels)]
        again = synthesise(pyramid)
        assert deviation(again, picture) < 1e-6
        adjoint = torch.autograd.grad((weights * again).sum(), pyramid)
        assert torch.equal(adjoint[0], weights)
        discrete["pyramid"][f"{levels}"] = [list(v.shape[2:]) for v in pyramid]
        # Of n bands and the rest, the first three bands are the same for every n from 3 on.
        for level, (band, transposed) in enumerate(zip(pyramid, adjoint)):
            kind = "rest" if level == len(pyramid) - 1 else "band"
            key = f"{kind}.{level}"
            for group, value in [("pyramid", band.detach()), ("adjoint", transposed)]:
                name = f"{group}.{key}"
                assert name not in tensors or torch.equal(tensors[name], value), name
                if (group, level) != ("adjoint", 0):  # these are the weights
                    tensors[name] = value
    for name, steps, loss, optimiser, options in [
        ("adam", 5, neighbours, torch.optim.Adam, ADAM),
        ("rmsprop", 3, lambda v: strotss.total(v, ALPHAS[0]), torch.optim.RMSprop, RMSPROP),
    ]:
        losses, last, end = descend(loss, image, LEVELS[-1], steps, optimiser, **options)
        assert last < losses[0], (name, losses, last)
        numbers[name] = {"losses": losses, "last_loss": last}
        store(name, end, numbers[name])
    return tensors, numbers, discrete


def merged(a, b):
    return {k: merged(a[k], b[k]) if k in a and k in b else (a | b)[k] for k in a | b}


def plain(v):
    if isinstance(v, dict):
        return {k: plain(x) for k, x in v.items()}
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    return v.item() if isinstance(v, torch.Tensor) else v


def number_deviation(a, b):
    """The largest relative one of all numbers."""
    if isinstance(a, dict):
        return max(number_deviation(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return max(map(number_deviation, a, b))
    return abs(a - b) / abs(b)


def deviations(other_values, exact):
    """By tensor, relative to its largest element; images and all gradients also in the L2 norm."""
    out = {"tensors": {}, "l2": {}}
    for name, tensor in exact[0].items():
        other = other_values[0][name].double()
        out["tensors"][name] = float(f"{deviation(other, tensor):.2g}")
        if name.startswith("gradient.") or name.endswith(".image"):
            out["l2"][name] = float(f"{((other - tensor).norm() / tensor.norm()).item():.2g}")
    out["numbers"] = {  # the largest deviation of a group
        k: float(f"{number_deviation(plain(other_values[1][k]), plain(v)):.2g}") for k, v in exact[1].items()}
    return out


def main():
    torch.set_num_threads(1)  # the order of summation depends on the number of threads
    torch.use_deterministic_algorithms(True)
    exact, single = values(torch.float64), values(torch.float32)
    tensors, numbers, discrete = exact
    assert single[2]["matches"]["indices"] == discrete["matches"]["indices"]
    report = {
        "origin": {**make.origin(), "script": "tests/reference/matching.py"},
        "image_seeds": IMAGE_SEEDS,
        "pyramid_seeds": PYRAMID_SEEDS,
        "normalisation": TORCHVISION,
        "tolerances": make.TOLERANCES,
        "sample_stride": STRIDE,
        "check_values": check_values(),
        "hypercolumns": {"layers": NEIGHBOUR_LAYERS, "columns": COLUMNS},
        "matches": {"content_kept": CONTENT_KEPT},
        "final": {"image_size": FINAL_IMAGE, "style_size": FINAL_STYLE,
                  **{name: {"grids": grids} for name, grids in FINAL_GRIDS.items()}},
        "strotss": {"layers": list(STROTSS_LAYERS)},
        "adam": {"options": ADAM},
        "rmsprop": {"options": RMSPROP, "alpha": ALPHAS[0]},
        "pyramid_sizes": {
            f"{h}x{w}": pyramid_sizes(h, w, 8) for h, w in [SIZES["image"], (9, 70), (512, 384), (200, 512), (1, 5)]},
    }
    report = merged(merged(report, plain(numbers)), discrete)
    report["float32"] = deviations(single, exact)
    perturbed = deviations(values(torch.float64, 3e-7), exact)
    report["perturbed"] = {k: v for k, v in perturbed["tensors"].items() if k in perturbed["l2"]}
    make.write_tensors("matching.reference.safetensors",
                       {k: v.float() for k, v in ({**pictures(), **tensors}).items()})
    make.write_json("matching.reference.json", report)
    for key, value in [*report["float32"].items(), ("perturbed", report["perturbed"])]:
        print(key, value)
    assert max(v for k, v in report["perturbed"].items() if k.startswith("gradient.")) < 5e-5


if __name__ == "__main__":
    main()
