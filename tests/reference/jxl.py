"""Small JPEG XL files, and what libjxl makes of them.

    pip install -r tests/reference/requirements.txt
    python tests/reference/jxl.py        # needs cjxl (0.7), Debian's libjxl-tools

Writes tests/data/jxl: 18×12 pixels of a drawn picture, and in jxl.reference.safetensors for each file its RGB or
RGBA in sRGB with 8 bits, as libjxl (through imagecodecs) and LittleCMS give them. `*.stored` are values in the
file's own colours, `*.float` light.
"""
import pathlib
import subprocess
import tempfile
import zlib

import imagecodecs
import numpy as np
from PIL import Image, ImageCms
from safetensors.numpy import save_file

import colors
from pictures import chunk

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "jxl"
y, x = np.mgrid[0:12, 0:18]
SCENE = np.stack([40 + x * 10, y * 15 + 20, (x + y) * 4 + (x * 7 + y * 5) % 11 * 6], -1).astype(np.uint8)
SCENE[3:8, 5:11] = (230, 40, 60)
ALPHA = np.where((x - 9) ** 2 + (y - 6) ** 2 < 25, 255, x * 14).astype(np.uint8)
# Turned clockwise to be upright.
EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
SRGB = ImageCms.createProfile("sRGB")
# Three curves, of which no numbers of JPEG XL can tell: the profile itself is stored.
UNEVEN = colors.matrix_profile(
    colors.ADOBE, [colors.gamma_tag(1.8), colors.table_tag(np.linspace(0, 1, 9) ** 2.2), colors.gamma_tag(2.4)]
)
P3 = colors.matrix_profile(colors.P3, colors.srgb_tag(), version=4)
LINEAR = colors.matrix_profile(colors.SRGB, colors.gamma_tag(1.0))


def to_srgb(stored, icc):
    flat = np.ascontiguousarray(stored.reshape(-1, 3))
    return colors.convert(flat, icc, SRGB, "RGB", "RGB").reshape(stored.shape)


def encode(name, image, *options, icc=None):
    """By cjxl, from a PNG, or from a PPM whose colours an option names."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / ("in.ppm" if any("color_space" in o for o in options) else "in.png")
        if image.dtype == np.uint16:
            png = imagecodecs.png_encode(image)
            if icc:
                png = png[:33] + chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc)) + png[33:]
            source.write_bytes(png)
        else:
            Image.fromarray(image).save(source, **({"icc_profile": icc} if icc else {}))
        subprocess.run(["cjxl", source, DATA / name, *options], check=True, capture_output=True)


def transcode(name, image, **options):
    """A JPEG without loss."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "in.jpg"
        Image.fromarray(image).save(source, quality=90, **options)
        subprocess.run(["cjxl", source, DATA / name, "-j", "1"], check=True, capture_output=True)


def decode(name):
    """Values in the file's own colours."""
    return imagecodecs.jpegxl_decode((DATA / name).read_bytes())


def light_to_srgb(values):
    """From 16 bits of light, as which libjxl gives what it would need the profile for."""
    light = values / 65535
    return np.round(255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)).astype(np.uint8)


def rgb(values):
    """Grey as RGB, all in 8 bits."""
    if values.dtype == np.uint16:
        values = np.round(values / 257).astype(np.uint8)
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[-1] < 3:
        values = np.concatenate([values[..., :1].repeat(3, -1), values[..., 1:]], -1)
    return values


def main():
    DATA.mkdir(parents=True, exist_ok=True)
    tensors = {}
    grey, rgba = SCENE[..., 1], np.dstack([SCENE, ALPHA])
    deep = SCENE.astype(np.uint16) * 257 + (x * 5 + y * 3).astype(np.uint16)[..., None]
    in_srgb = {
        "lossless": (SCENE, "-d", "0"),
        "lossy": (SCENE, "-d", "1"),
        "container": (SCENE, "-d", "2", "--container=1"),
        "grey": (grey, "-d", "0"),
        "grey-lossy": (grey, "-d", "1"),
        "grey-alpha": (np.dstack([grey, ALPHA]), "-d", "0"),
        "alpha": (rgba, "-d", "0"),
        "alpha-lossy": (rgba, "-d", "1"),
        "sixteen": (deep, "-d", "0"),
        "sixteen-lossy": (deep, "-d", "0.5"),
    }
    for name, (image, *options) in in_srgb.items():
        encode(f"{name}.jxl", image, *options)
    jpegs = {"jpeg": {}, "jpeg-444": {"subsampling": 0}, "jpeg-turned": {"exif": EXIF}}
    for name, options in jpegs.items():
        transcode(f"{name}.jxl", SCENE, **options)
    for name in (*in_srgb, *jpegs):
        tensors[f"{name}.jxl"] = rgb(decode(f"{name}.jxl"))

    encode("p3.jxl", SCENE, "-d", "0", "-x", "color_space=RGB_D65_DCI_Rel_SRG")
    encode("p3-lossy.jxl", SCENE, "-d", "0.5", "-x", "color_space=RGB_D65_DCI_Rel_SRG")
    encode("linear.jxl", SCENE, "-d", "0", "-x", "color_space=RGB_D65_SRG_Rel_Lin")
    encode("icc.jxl", SCENE, "-d", "0", icc=UNEVEN)
    for name, icc in (("p3.jxl", P3), ("p3-lossy.jxl", P3), ("linear.jxl", LINEAR), ("icc.jxl", UNEVEN)):
        tensors[name] = to_srgb(decode(name), icc)
    encode("icc-lossy.jxl", deep, "-d", "0.5", icc=UNEVEN)
    tensors["icc-lossy.jxl"] = light_to_srgb(decode("icc-lossy.jxl"))
    for name, space in (("pq.jxl", "RGB_D65_202_Rel_PeQ"), ("hlg.jxl", "RGB_D65_202_Rel_HLG")):
        encode(name, SCENE, "-d", "0", "-x", f"color_space={space}")
        tensors[f"{name}.stored"] = decode(name)
    # imagecodecs declares values of floats to be light.
    light = (colors.srgb_to_linear(deep[:6, :12] / 65535)).astype(np.float32)
    for name, values in (("float.jxl", light), ("half.jxl", light.astype(np.float16))):
        (DATA / name).write_bytes(imagecodecs.jpegxl_encode(values, lossless=True))
        tensors[f"{name}.float"] = decode(name).astype(np.float32)
    frames = np.zeros((2, 30, 40, 3), np.uint8)
    frames[0, ..., 0] = frames[1, ..., 2] = 255
    (DATA / "animated.jxl").write_bytes(imagecodecs.jpegxl_encode(frames, lossless=True))
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(tensors, DATA.parent / "jxl.reference.safetensors")
    for file in sorted(DATA.iterdir()):
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
