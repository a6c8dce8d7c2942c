"""Colour profiles, and what LittleCMS makes of colours in them.

    pip install -r tests/reference/requirements.txt
    python tests/reference/colors.py

Writes tests/data/colors.reference.safetensors. All profiles are made here, of published numbers and simple
formulas; LittleCMS (through Pillow) converts with the relative colorimetric intent, without black point
compensation and without its shortcuts for speed.
"""
import io
import pathlib
import struct

import numpy as np
from PIL import Image, ImageCms
from safetensors.numpy import save_file

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
rng = np.random.default_rng(8)


def s15(values):
    return b"".join(struct.pack(">i", round(float(v) * 65536)) for v in np.ravel(values))


def colorants(red, green, blue, white=(0.3127, 0.3290)):
    """D50-adapted XYZ of the primaries, as columns, from chromaticities (Bradford)."""
    xyz = lambda x, y: np.array([x / y, 1, (1 - x - y) / y])
    matrix = np.stack([xyz(*red), xyz(*green), xyz(*blue)], 1)
    matrix = matrix * np.linalg.solve(matrix, xyz(*white))
    scale = (BRADFORD @ D50) / (BRADFORD @ xyz(*white))
    return np.linalg.inv(BRADFORD) @ np.diag(scale) @ BRADFORD @ matrix


P3 = colorants((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = colorants((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
SRGB = colorants((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
PRO_PHOTO = colorants((0.734699, 0.265301), (0.159597, 0.840403), (0.036598, 0.000105), (0.3457, 0.3585))


def gamma_tag(gamma):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def table_tag(values):
    values = np.round(np.asarray(values) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(values)) + values.tobytes()


def srgb_tag():
    """The curve of IEC 61966-2-1 by its parameters."""
    return b"para\0\0\0\0\0\3\0\0" + s15([2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045])


def srgb_to_linear(v):
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def profile(space, tags, pcs=b"XYZ ", version=2, kind=b"mntr"):
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 79
    if version == 4:
        name = b"mluc\0\0\0\0" + struct.pack(">II", 1, 12) + b"enUS" + struct.pack(">II", 8, 28) + "test".encode("utf-16-be")
    tags = {b"desc": name, b"wtpt": b"XYZ \0\0\0\0" + s15(D50), **tags}
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for signature, data in tags.items():
        table += signature + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I", start + len(body)) + b"\0" * 4 + bytes([version, 0, 0, 0]) + kind + space + pcs
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + s15(D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def matrix_profile(matrix, curve, version=2):
    tags = {name: b"XYZ \0\0\0\0" + s15(matrix[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = curve if isinstance(curve, list) else [curve] * 3
    tags |= dict(zip((b"rTRC", b"gTRC", b"bTRC"), curves))
    return profile(b"RGB ", tags, version=version)


def lab(xyz):
    f = xyz / D50
    f = np.where(f > (6 / 29) ** 3, np.cbrt(f), f * 841 / 108 + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def from_lab(lab):
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    return np.where(f > 6 / 29, f**3, (f - 4 / 29) * 108 / 841) * D50


def grid(points, channels):
    """All colours of a table, the last channel varying fastest."""
    axes = np.meshgrid(*[np.linspace(0, 1, points)] * channels, indexing="ij")
    return np.stack(axes, -1).reshape(-1, channels)


def lut16(inputs, outputs, points, table):
    """mft2, the table in the encoding of profiles of version 2."""
    straight = np.array([0, 65535], ">u2").tobytes()
    head = b"mft2\0\0\0\0" + bytes([inputs, outputs, points, 0]) + s15(np.eye(3)) + struct.pack(">HH", 2, 2)
    return head + straight * inputs + np.round(table.clip(0, 1) * 65535).astype(">u2").tobytes() + straight * outputs


def lab_16(values):
    """L*a*b* in version 2's encoding: 0xff00 is 100."""
    return (values + [0, 128, 128]) / [100, 255, 255] * 65280 / 65535 * [1, 1, 1]


def un_lab_16(values):
    return values * 65535 / 65280 * [100, 255, 255] - [0, 128, 128]


def lut_ab(kind, inputs, outputs, points, table, gamma):
    """mAB or mBA with B curves, a table and A curves; those of the device side have a gamma."""
    para = lambda g: b"para\0\0\0\0\0\0\0\0" + s15([g])
    device, connection = para(gamma), para(1.0)
    a_curves = (device * inputs) if kind == b"mAB " else (device * outputs)
    b_curves = connection * 3
    clut = bytes([points] * inputs).ljust(16, b"\0") + bytes([2, 0, 0, 0])
    clut += np.round(table.clip(0, 1) * 65535).astype(">u2").tobytes()
    clut += b"\0" * (-len(clut) % 4)
    b_at = 32
    clut_at = b_at + len(b_curves)
    a_at = clut_at + len(clut)
    head = kind + b"\0\0\0\0" + bytes([inputs, outputs, 0, 0]) + struct.pack(">IIIII", b_at, 0, 0, clut_at, a_at)
    return head + b_curves + clut + a_curves


def device_light(values, gamma=1.8):
    return values.clip(0, 1) ** gamma


def lut_rgb_v2():
    """A printer of light: P3's primaries, some crosstalk, gamma 1.8."""
    points, back = 11, 15
    to_lab = lambda rgb: lab(device_light(rgb) @ P3.T)
    from_pcs = lambda pcs: (from_lab(pcs) @ np.linalg.inv(P3).T).clip(0, 1) ** (1 / 1.8)
    a2b = lut16(3, 3, points, lab_16(to_lab(grid(points, 3))))
    b2a = lut16(3, 3, back, from_pcs(un_lab_16(grid(back, 3))))
    return profile(b"RGB ", {b"A2B0": a2b, b"B2A0": b2a}, pcs=b"Lab ", kind=b"prtr")


def lut_rgb_v4():
    """The same by curves around a table of light, in version 4."""
    points, back = 11, 15
    lab_4 = lambda values: (values + [0, 128, 128]) / [100, 255, 255]
    un_lab_4 = lambda values: values * [100, 255, 255] - [0, 128, 128]
    # The table sees light to the power of 1/2.2: the A curves undo a part of the gamma only.
    a2b = lut_ab(b"mAB ", 3, 3, points, lab_4(lab(grid(points, 3) ** 2.2 @ ADOBE.T)), 1.8 / 2.2)
    light = (from_lab(un_lab_4(grid(back, 3))) @ np.linalg.inv(ADOBE).T).clip(0, 1)
    b2a = lut_ab(b"mBA ", 3, 3, back, light ** (1 / 2.2), 2.2 / 1.8)
    return profile(b"RGB ", {b"A2B1": a2b, b"B2A1": b2a}, pcs=b"Lab ", version=4, kind=b"prtr")


def lut_cmyk():
    """Inks on paper that is not quite white, each with some of the others' colours."""
    points = 7
    inks = grid(points, 4)
    pass_through = np.array([[0.08, 0.55, 0.78], [0.75, 0.10, 0.35], [0.90, 0.82, 0.06], [0.05, 0.05, 0.05]])
    light = np.prod(1 - inks[:, :, None] ** 0.8 * (1 - pass_through), 1) * [0.95, 0.94, 0.92]
    return profile(b"CMYK", {b"A2B0": lut16(4, 3, points, lab_16(lab(light @ SRGB.T)))}, pcs=b"Lab ", kind=b"prtr")


def grey(curve):
    return profile(b"GRAY", {b"kTRC": curve})


def convert(pixels, source, goal, mode_from, mode_to):
    flags = ImageCms.Flags.NOOPTIMIZE | ImageCms.Flags.NOCACHE
    opened = [ImageCms.ImageCmsProfile(io.BytesIO(p)) if isinstance(p, bytes) else p for p in (source, goal)]
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    transform = ImageCms.buildTransform(*opened, mode_from, mode_to, intent, flags)
    image = Image.fromarray(pixels.reshape(1, *pixels.shape) if pixels.ndim == 2 else pixels.reshape(1, -1), mode_from)
    result = np.asarray(ImageCms.applyTransform(image, transform))[0]
    return result


def colors(channels, count):
    """Corners, greys, and random colours."""
    if channels == 1:
        return np.arange(256, dtype=np.uint8)
    steps = grid(3, channels) * 255
    greys = np.repeat(np.arange(0, 256, 5)[:, None], channels, 1)
    return np.concatenate([steps, greys, rng.integers(0, 256, (count, channels))]).round().astype(np.uint8)


def main():
    srgb = ImageCms.createProfile("sRGB")
    tensors = {}
    sampled = table_tag(srgb_to_linear(np.linspace(0, 1, 1024)))
    dot_gain = table_tag(np.linspace(0, 1, 256) ** 1.75 * 0.9 + np.linspace(0, 1, 256) * 0.1)
    profiles = {
        "display-p3": matrix_profile(P3, srgb_tag(), version=4),
        "adobe-rgb": matrix_profile(ADOBE, gamma_tag(563 / 256)),
        "linear": matrix_profile(SRGB, gamma_tag(1.0)),
        "pro-photo": matrix_profile(PRO_PHOTO, gamma_tag(1.8)),
        "sampled-p3": matrix_profile(P3, sampled),
        "uneven": matrix_profile(ADOBE, [gamma_tag(1.8), sampled, gamma_tag(2.4)]),
        # What a PNG says with gAMA 55556 and the chromaticities of Adobe RGB.
        "png-gamma": matrix_profile(ADOBE, b"para\0\0\0\0\0\0\0\0" + s15([1 / 0.55556]), version=4),
        "lut-v2": lut_rgb_v2(),
        "lut-v4": lut_rgb_v4(),
        "grey-gamma": grey(gamma_tag(1.8)),
        "grey-table": grey(dot_gain),
        "srgb": matrix_profile(SRGB, srgb_tag(), version=4),
        "srgb-sampled": matrix_profile(SRGB, sampled),
        "cmyk": lut_cmyk(),
    }
    for name, icc in profiles.items():
        mode = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}[icc[16:20]]
        stored = colors(len(Image.new(mode, (1, 1)).getbands()), 400)
        tensors[f"{name}.icc"] = np.frombuffer(icc, np.uint8)
        tensors[f"{name}.stored"] = stored
        tensors[f"{name}.srgb"] = convert(stored, icc, srgb, mode, "RGB")
        if mode == "RGB":
            back = colors(3, 400)
            tensors[f"{name}.back.srgb"] = back
            tensors[f"{name}.back.stored"] = convert(back, srgb, icc, "RGB", mode)
    tensors |= jpegs(profiles["cmyk"], srgb)
    tensors = {name: np.ascontiguousarray(t) for name, t in tensors.items()}
    save_file(tensors, DATA / "colors.reference.safetensors")
    print({name: t.shape for name, t in tensors.items()})


def jpegs(icc, srgb):
    """CMYK as Adobe's programs store it, as inks and as luminance and colour differences; of blocks in flat
    colours, of which every pixel is decoded alike by all decoders, within a step."""
    blocks = rng.integers(0, 256, (4, 6, 4)).astype(np.uint8)
    # Not too much of the differences, or the colours leave the range.
    ycck = np.concatenate([rng.integers(100, 156, (4, 6, 1)), rng.integers(98, 158, (4, 6, 2)), rng.integers(0, 256, (4, 6, 1))], -1)
    result = {}
    for name, stored, transform in (("cmyk.jpeg", blocks, 0), ("ycck.jpeg", ycck.astype(np.uint8), 2)):
        image = Image.fromarray(stored.repeat(16, 0).repeat(16, 1), "CMYK")
        file = io.BytesIO()
        image.save(file, "JPEG", quality=100, subsampling=0, icc_profile=icc)
        data = bytearray(file.getvalue())
        at = data.index(b"Adobe")
        data[at + 11] = transform
        result[name] = np.frombuffer(bytes(data), np.uint8)
        inks = Image.open(io.BytesIO(bytes(data)))
        assert inks.mode == "CMYK"
        middle = np.asarray(inks)[8::16, 8::16].reshape(-1, 4)
        result[f"{name}.srgb"] = convert(np.ascontiguousarray(middle), icc, srgb, "CMYK", "RGB")
        # What no profile gives: the naive product.
    return result


if __name__ == "__main__":
    main()
