"""Small AVIF files, and what libavif makes of them.

    pip install -r tests/reference/requirements.txt
    python tests/reference/avif.py        # needs avifenc (0.11), Debian's libavif-bin

Writes tests/data/avif: 18×12 pixels of a drawn picture, and in avif.reference.safetensors for each file its RGB or
RGBA in sRGB with 8 bits, as libavif (through imagecodecs) and LittleCMS give them. `*.stored` are values in the
file's own colours, here of 16 bits.
"""
import pathlib
import subprocess
import tempfile

import imagecodecs
import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from jxl import ALPHA, P3, SCENE, UNEVEN, rgb, to_srgb

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "avif"


def encode(name, images, *options):
    with tempfile.TemporaryDirectory() as folder:
        sources = [pathlib.Path(folder) / f"{index}.png" for index in range(len(images))]
        for image, source in zip(images, sources):
            Image.fromarray(image).save(source)
        command = ["avifenc", "--min", "0", "--max", "12", "--minalpha", "0", "--maxalpha", "0", "-s", "3", *options]
        subprocess.run([*command, *sources, DATA / f"{name}.avif"], check=True, capture_output=True)


def decode(name, bits=8):
    values = imagecodecs.avif_decode((DATA / f"{name}.avif").read_bytes())
    if bits > 8:
        values = np.round(values.astype(float) * 255 / (2**bits - 1)).astype(np.uint8)
    return rgb(values)


def main():
    DATA.mkdir(parents=True, exist_ok=True)
    tensors = {}
    rgba = np.dstack([SCENE, ALPHA])
    with tempfile.NamedTemporaryFile(suffix=".icc") as icc:
        icc.write(UNEVEN)
        icc.flush()
        files = {
            "420": (SCENE, "-y", "420"),
            "422": (SCENE, "-y", "422"),
            "444": (SCENE, "-y", "444"),
            "grey": (SCENE, "-y", "400"),
            "lossless": (SCENE, "-l"),
            "ten": (SCENE, "-d", "10", "-y", "444"),
            "twelve": (SCENE, "-d", "12", "-y", "420"),
            "limited": (SCENE, "-r", "limited", "-y", "444"),
            "limited-ten": (SCENE, "-r", "limited", "-y", "422", "-d", "10"),
            "bt709": (SCENE, "--cicp", "1/13/1", "-y", "444"),
            "bt2020": (SCENE, "--cicp", "1/13/9", "-y", "444"),
            "alpha": (rgba, "-y", "444"),
            "premultiplied": (rgba, "-p", "-y", "444"),
            "grey-alpha": (rgba, "-y", "400", "-r", "limited"),
            "turned": (SCENE, "--irot", "1", "-y", "420"),
            "mirrored": (SCENE, "--imir", "0", "-y", "420"),
            "turned-mirrored": (SCENE, "--irot", "3", "--imir", "1", "-y", "420"),
            "cropped": (SCENE, "--crop", "4,2,10,8", "-y", "420"),
            "p3": (SCENE, "--cicp", "12/13/0", "-l"),
            "icc": (SCENE, "--icc", icc.name, "-l"),
            "pq": (SCENE, "--cicp", "9/16/9", "-y", "444", "-d", "10"),
        }
        for name, (image, *options) in files.items():
            encode(name, [image], *options)
    for name, (_, *options) in files.items():
        depth = int(options[options.index("-d") + 1]) if "-d" in options else 8
        tensors[name] = decode(name, depth)
    for name, icc in (("p3", P3), ("icc", UNEVEN)):
        tensors[name] = to_srgb(tensors[name], icc)
    del tensors["pq"]
    ten = imagecodecs.avif_decode((DATA / "pq.avif").read_bytes())
    tensors["pq.stored"] = np.round(ten * (65535 / 1023)).astype(np.uint16)
    # The container turns first, anticlockwise; 0 exchanges top and bottom, 1 left and right.
    assert tensors["turned"].shape == SCENE.shape
    tensors["turned"] = np.rot90(tensors["turned"], 1)
    tensors["mirrored"] = np.flipud(tensors["mirrored"])
    tensors["turned-mirrored"] = np.fliplr(np.rot90(tensors["turned-mirrored"], 3))
    tensors["cropped"] = tensors["cropped"][2:10, 4:14]
    # No smaller tiles are allowed.
    flat = [np.full((64, 64, 3), color, np.uint8) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))]
    encode("grid", flat, "--grid", "2x2", "-y", "420")
    encode("unknown-matrix", [SCENE], "--cicp", "1/13/8")
    encode("animated", [flat[0][:30, :40], flat[2][:30, :40]], "-y", "444")
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(tensors, DATA.parent / "avif.reference.safetensors")
    for file in sorted(DATA.iterdir()):
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
