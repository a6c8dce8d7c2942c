#!/usr/bin/env python3
"""Makes assets/builtin.safetensors, the slim encoder inside the crate, from a trained student.

    python assets/builtin.py STUDENT.safetensors

The student holds the convolutions `conv1_1.weight|bias` … `conv5_1.weight|bias` and, for each layer,
the matrix `convX_Y.mix` that follows its ReLU (and pool), and the linear map `convX_Y.projection` P
(C×r) from its mixed responses S to VGG19's, P·S ≈ T. With PᵀP = VΛVᵀ and R = Λ^½Vᵀ (r×r),
‖P·S − P·S'‖ = ‖R·S − R·S'‖, and the same for Gram matrices: R·S gives VGG19's content and Gram losses
from r channels. So the crate's projection of a layer is R times the student's own (`mix`), and the kernel behind it is
multiplied by R⁻¹, which leaves what it computes as it was. Needs torch and safetensors.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BLOCKS = (2, 2, 4, 4, 1)
# Positions of the convolutions in torchvision's `features`.
INDICES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)


def main() -> None:
    student = {name: tensor.double() for name, tensor in load_file(sys.argv[1]).items()}
    layers = [f"conv{b + 1}_{i + 1}" for b, n in enumerate(BLOCKS) for i in range(n)]
    tensors = {}
    undo = torch.eye(3, dtype=torch.double)
    for number, (layer, index) in enumerate(zip(layers, INDICES)):
        projection = student[f"{layer}.projection"]
        squares, directions = torch.linalg.eigh(projection.T @ projection)
        assert squares.min() > 1e-6 * squares.max(), f"{layer}: the map leaves channels out"
        kernel = torch.einsum("ochw,cd->odhw", student[f"{layer}.weight"], undo)
        readout = (directions * squares.sqrt()).T @ student[f"{layer}.mix"]
        # A ReLU passes factors on: both get values that half precision holds well.
        size = (kernel.square().mean((1, 2, 3)) / readout.square().mean(0)) ** 0.25
        readout = readout * size
        tensors[f"features.{index}.weight"] = kernel / size[:, None, None, None]
        tensors[f"features.{index}.bias"] = student[f"{layer}.bias"] / size
        tensors[f"readout.{number}.weight"] = readout[:, :, None, None]
        undo = directions / squares.sqrt()
    tensors = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
    assert all(tensor.isfinite().all() for tensor in tensors.values()), "does not fit in half precision"
    metadata = {
        "normalization.mean": "123.68,116.779,103.939",
        "normalization.std": "128,128,128",
        "input.range": "0-255",
        "input.channels": "RGB",
    }
    save_file(tensors, Path(__file__).parent / "builtin.safetensors", metadata)


if __name__ == "__main__":
    main()
