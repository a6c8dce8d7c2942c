"""VGG19 in PyTorch, for compare.py and gpu.py: impasto's weights, features and Gram matrices."""

import torch
import torch.nn.functional as F
from safetensors import safe_open

CONVOLUTIONS = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512]
# torchvision's names of the convolutions up to conv5_1
INDICES = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28]
# relu1_1, relu2_1, relu3_1, relu4_1, relu5_1; relu4_2
STYLE, CONTENT = [0, 2, 4, 8, 12], 9


def normalization(metadata):
    """Range, mean and deviation, as `src/weights/metadata.rs` writes them; torchvision's without."""
    if not metadata or "normalization.mean" not in metadata:
        return 1.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False
    mean, std = (
        [float(number) for number in metadata[f"normalization.{name}"].strip("[]").split(",")]
        for name in ("mean", "std")
    )
    scale = 255.0 if "255" in metadata.get("input.range", "0-1") else 1.0
    return scale, mean, std, metadata.get("input.channels", "RGB").upper() == "BGR"


class Vgg19:
    """The convolutions up to conv5_1, for RGB images from 0 to 1."""

    def __init__(self, path, dtype=torch.float32, device="cpu", memory_format=None):
        self.dtype = dtype
        self.memory_format = memory_format or torch.contiguous_format
        self.layers = []
        with safe_open(path, "pt") as file:
            scale, mean, std, bgr = normalization(file.metadata())
            for index in INDICES:
                weight = file.get_tensor(f"features.{index}.weight")
                if index == 0 and bgr:
                    weight = weight.flip(1)
                bias = file.get_tensor(f"features.{index}.bias")
                weight = weight.to(device, dtype).contiguous(memory_format=self.memory_format)
                self.layers.append((weight, bias.to(device, dtype)))
        # (scale · image - mean) / std
        mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (mean, std))
        self.scale, self.offset = scale / std, mean / std

    def features(self, image):
        """Of the layers in STYLE and CONTENT, by index."""
        x, index, taps = image * self.scale - self.offset, 0, {}
        x = x.to(self.dtype).contiguous(memory_format=self.memory_format)
        for width in CONVOLUTIONS:
            if width == "M":
                x = F.max_pool2d(x, 2)
                continue
            x = F.relu(F.conv2d(x, *self.layers[index], padding=1))
            if index in STYLE or index == CONTENT:
                taps[index] = x
            index += 1
        return taps


def gram(x):
    """Gram matrix divided by the positions, `gram_matrix` in `src/loss/style.rs`."""
    _, channels, height, width = x.shape
    rows = x.reshape(channels, height * width)
    return (rows @ rows.t() / (height * width)).float()


class Losses:
    """Mean squared errors of the Gram matrices and of the content, `[content, style]`."""

    def __init__(self, network, content, style, per_channel=False):
        """`per_channel`: Gram matrices divided by the channels too, `GramNormalization::PerElement`."""
        self.network, self.per_channel = network, per_channel
        with torch.no_grad():
            taps = network.features(style)
            self.grams = {i: gram(taps[i]) for i in STYLE}
            del taps
            self.content = network.features(content)[CONTENT]

    def __call__(self, image):
        taps = self.network.features(image)
        style = 0
        for i in STYLE:
            error = gram(taps[i]) - self.grams[i]
            if self.per_channel:
                error = error / taps[i].shape[1]
            style = style + (error**2).mean()
        content = ((taps[CONTENT] - self.content) ** 2).float().mean()
        return content, style
