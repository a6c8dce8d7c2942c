#!/usr/bin/env python3
"""Grain of stylized pictures: the finest Laplacian band in flat areas, beside that of the style.

    python benches/grain.py CONTENT STYLE RESULT...

For each result: the root mean square of lightness (L*) less itself halved and doubled,
- in the third of the content with the least gradient, over that of the style's flattest third (grain),
- in the third with the strongest gradient, over that of the style's (edges),
and of a* and b* in the flat third, over that of the whole style (colour). The style is reduced to the
longest side of the result, as the program does. Needs numpy, scipy, pillow and scikit-image.
"""

import sys

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter
from skimage.color import rgb2lab


def load(path, longest=None, size=None):
    picture = Image.open(path).convert("RGB")
    if longest:
        scale = longest / max(picture.size)
        size = tuple(max(2, round(side * scale)) for side in picture.size)
    if size:
        picture = picture.resize(size, Image.LANCZOS)
    return rgb2lab(np.asarray(picture, np.float64) / 255)


def finest_band(plane):
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    half = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    doubled = Image.fromarray(half.astype(np.float32)).resize(even.shape[::-1], Image.BILINEAR)
    return plane - np.asarray(doubled, np.float64)[:height, :width]


def gradient(lightness):
    rows, columns = np.gradient(gaussian_filter(lightness, 1.0))
    return uniform_filter(np.hypot(rows, columns), 9)


def rms(values):
    return float(np.sqrt(np.mean(values * values)))


def measure(content, style, result):
    result = load(result)
    height, width = result.shape[:2]
    content, style = load(content, size=(width, height)), load(style, longest=max(height, width))
    places, style_places = gradient(content[..., 0]), gradient(style[..., 0])
    flat, edges = places <= np.quantile(places, 1 / 3), places >= np.quantile(places, 2 / 3)
    style_flat = style_places <= np.quantile(style_places, 1 / 3)
    style_edges = style_places >= np.quantile(style_places, 2 / 3)
    band, style_band = finest_band(result[..., 0]), finest_band(style[..., 0])
    colours = [np.stack([finest_band(lab[..., axis]) for axis in (1, 2)]) for lab in (result, style)]
    return {
        "grain": rms(band[flat]) / rms(style_band[style_flat]),
        "edges": rms(band[edges]) / rms(style_band[style_edges]),
        "colour": rms(colours[0][:, flat]) / rms(colours[1]),
    }


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    content, style, *results = sys.argv[1:]
    for result in results:
        values = measure(content, style, result)
        print(result, *(f"{name} {value:.3f}" for name, value in values.items()))


if __name__ == "__main__":
    main()
