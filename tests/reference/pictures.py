"""Small picture files of kinds that the Rust crates do not write.

    pip install -r tests/reference/requirements.txt
    python tests/reference/pictures.py

Writes tests/data/pictures. The animations are 40×30, their first frame red, their second blue; the others a
scene with detail everywhere, so that no part of a file is dispensable.
"""
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "pictures"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def interlaced_png(rgb):
    """Adam7, without filters."""
    height, width, _ = rgb.shape
    rows = b""
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for row in rgb[y::dy, x::dx]:
            rows += b"\0" + row.tobytes() if row.size else b""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiled_tiff(rgb, side=16):
    height, width, _ = rgb.shape
    down, across = -(-height // side), -(-width // side)
    padded = np.zeros((down * side, across * side, 3), np.uint8)
    padded[:height, :width] = rgb
    tiles = [padded[y * side : (y + 1) * side, x * side : (x + 1) * side].tobytes() for y in range(down) for x in range(across)]
    count, size = len(tiles), side * side * 3
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, None), (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3)]
    entries += [(322, 3, 1, side), (323, 3, 1, side), (324, 4, count, None), (325, 4, count, None)]
    # The directory first, then what does not fit in it, then the tiles.
    behind = 8 + 2 + 12 * len(entries) + 4
    bits, offsets, sizes = behind, behind + 6, behind + 6 + 4 * count
    first = sizes + 4 * count
    places = {258: bits, 324: offsets, 325: sizes}
    data = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    for tag, kind, number, value in entries:
        data += struct.pack("<HHII", tag, kind, number, places.get(tag, value))
    data += b"\0" * 4 + struct.pack("<HHH", 8, 8, 8)
    data += struct.pack(f"<{count}I", *(first + i * size for i in range(count))) + struct.pack(f"<{count}I", *[size] * count)
    return data + b"".join(tiles)


def main():
    DATA.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:47, 0:61]
    noise = (x * 7919 + y * 104729 + x * y * 31) % 97
    rgb = np.stack([x * 4, y * 5, noise + 60], -1).astype(np.uint8)
    scene = Image.fromarray(rgb)
    scene.save(DATA / "progressive.jpg", quality=85, progressive=True)
    scene.save(DATA / "restarts.jpg", quality=85, restart_marker_blocks=3)
    scene.save(DATA / "lossy.webp", quality=70)
    alpha = Image.fromarray(np.dstack([rgb, 255 - x - y]).astype(np.uint8))
    alpha.save(DATA / "lossy-alpha.webp", quality=70)
    (DATA / "interlaced.png").write_bytes(interlaced_png(rgb))
    (DATA / "tiled.tiff").write_bytes(tiled_tiff(rgb))
    frames = [Image.new("RGB", (40, 30), color) for color in ((255, 0, 0), (0, 0, 255))]
    for name in ("animated.webp", "animated.gif", "animated.png"):
        frames[0].save(DATA / name, save_all=True, append_images=frames[1:], duration=100)
    for file in sorted(DATA.iterdir()):
        image = Image.open(file)
        image.load()
        print(file.name, file.stat().st_size, image.size, image.mode)


if __name__ == "__main__":
    main()
