#!/usr/bin/env python3
"""Makes assets/builtin.safetensors, the slim encoder inside the crate, from a trained student.

    python assets/builtin.py STUDENT.safetensors

The student holds the convolutions `conv1_1.weight|bias` … `conv5_1.weight|bias` and, for each layer,
the matrix `convX_Y.mix` that follows its ReLU and pool, and the linear map `convX_Y.projection` P
(C×r) from its mixed responses S to VGG19's, P·S ≈ T. Since ‖P·S − P·S'‖ = ‖R·S − R·S'‖ for
R = (PᵀP)^½ (r×r), the crate stores R as a 1×1 convolution and gets VGG19's content and Gram losses
from r channels. Needs torch and safetensors.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BLOCKS = (2, 2, 4, 4, 1)
# Positions of the convolutions in torchvision's `features`.
INDICES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)


def root_of_gram(projection: torch.Tensor) -> torch.Tensor:
    """(PᵀP)^½, symmetric and positive semi-definite, in float64."""
    projection = projection.double()
    values, vectors = torch.linalg.eigh(projection.T @ projection)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def main() -> None:
    student = load_file(sys.argv[1])
    layers = [f"conv{b + 1}_{i + 1}" for b, n in enumerate(BLOCKS) for i in range(n)]
    tensors = {}
    for number, (layer, index) in enumerate(zip(layers, INDICES)):
        tensors[f"features.{index}.weight"] = student[f"{layer}.weight"].half()
        tensors[f"features.{index}.bias"] = student[f"{layer}.bias"].half()
        tensors[f"mix.{number}.weight"] = student[f"{layer}.mix"][:, :, None, None].half()
        readout = root_of_gram(student[f"{layer}.projection"])
        assert readout.abs().max() < 60000, "does not fit in half precision"
        tensors[f"readout.{number}.weight"] = readout[:, :, None, None].half()
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    metadata = {
        "normalization.mean": "123.68,116.779,103.939",
        "normalization.std": "128,128,128",
        "input.range": "0-255",
        "input.channels": "RGB",
    }
    save_file(tensors, Path(__file__).parent / "builtin.safetensors", metadata)


if __name__ == "__main__":
    main()
