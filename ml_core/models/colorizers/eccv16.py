"""The published colorizer of Zhang, Isola and Efros, "Colorful Image Colorization" (ECCV 2016): `eccv16`."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from ml_core.errors import UserError
from ml_core.models.colorizers.colour_bins import BINS
from ml_core.models.colorizers.network import SHRINKS, ColourNetwork
from ml_core.runtime.published_files import PublishedFile, state_dict_of

PUBLISHED = PublishedFile(
    network="eccv16",
    address="https://colorizers.s3.us-east-2.amazonaws.com/colorization_release_v2-9b330a0b.pth",
    hash_prefix="9b330a0b",
    bring_in="bring it in as the job's colorizer weights",
    otherwise="choose the method structured, which needs none",
)


class ECCV16(ColourNetwork):
    """L (B, 1, H, W) in 0..100 to ab (B, 2, H, W); H and W are multiples of 8.

    Each cell of the grid at a quarter of the size gets a distribution over 313 colours; a bias-free 1x1 convolution
    gives its mean colour (the published network's form of the annealed mean), which is enlarged by 4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model_out = nn.Conv2d(BINS, 2, kernel_size=1, bias=False)

    def forward(self, lightness: Tensor) -> Tensor:
        ab = self.model_out(functional.softmax(self.logits(lightness), dim=1))
        return functional.interpolate(ab, scale_factor=SHRINKS, mode="bilinear", align_corners=False) * 110


def eccv16_from(path: Path | None, *, keep: Path) -> ECCV16:
    """The published network in evaluation mode.

    `path` is a local weights file (the published .pth, or a safetensors file of the same tensors). Without it the
    published file is downloaded once into the folder `keep`. Raises UserError with a remedy.
    """
    source = path.name if path else PUBLISHED.name
    network = ECCV16()
    state = state_dict_of(PUBLISHED, path=path, keep=keep)
    if "bins" in state:
        raise UserError(f"The colorizer in {source} was trained here. Choose the method trained for it.")
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"The colorizer file {source} does not hold the weights of eccv16 (Zhang et al. 2016). "
            f"Bring in the published file {PUBLISHED.name}."
        ) from error
    return network.eval()
