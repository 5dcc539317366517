"""ResNets in which stand-alone self-attention replaces every 3x3 convolution, as encoders of the smp library.

Ramachandran et al., "Stand-Alone Self-Attention in Vision Models" (NeurIPS 2019, arXiv:1906.05909), section 3; of the
variants there, the one with a convolutional stem.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from torch import Tensor, nn

from ml_core.errors import UserError
from ml_core.models.stand_alone_attention import StandAloneAttention


class AttentionBottleneck(nn.Module):
    """ResNet's bottleneck (He et al. 2016, fig. 5), its middle convolution an attention of 7x7 windows and 8 heads.

    Where the convolution had a stride of 2, the attention sees the larger map and a 2x2 average follows (sec. 3.2).
    The arguments are those with which torchvision's ResNet builds its blocks.
    """

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if (groups, base_width, dilation) != (1, 64, 1):
            raise ValueError("A block of stand-alone attention has no groups, no other width and no dilation.")
        norm = norm_layer or nn.BatchNorm2d
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = norm(planes)
        self.attention = StandAloneAttention(planes, planes)
        # The average over an odd last row or column covers fewer pixels; sizes are as of a convolution with stride 2.
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.bn2 = norm(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = norm(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, H, W) to (B, 4 planes, H / stride, W / stride), rounded up."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.pool(self.attention(y))))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


class AttentionResNetEncoder(ResNetEncoder):
    """A ResNet of `AttentionBottleneck`s; stem, stages `layer1` to `layer4` and depths are those of smp's ResNets."""

    _is_torch_scriptable = False

    def __init__(self, **arguments: Any) -> None:
        super().__init__(block=AttentionBottleneck, **arguments)
        # ResNet initialises all convolutions in the same way, including those in the attention layers.
        for module in self.modules():
            if isinstance(module, StandAloneAttention):
                module.reset_parameters()

    def make_dilated(self, output_stride: int) -> None:
        raise UserError(
            f"A self-attention network has no strides to replace by dilation for an output stride of {output_stride}. "
            "Choose a decoder that takes maps at 1/32 of the size (unet, unetplusplus, fpn), or a ResNet."
        )


def register() -> None:
    """Registers these encoders with smp, so that `smp.Unet` and the like build them by name."""
    for name, blocks in {"attention26": [1, 2, 4, 1], "attention50": [3, 4, 6, 3]}.items():
        smp.encoders.encoders[name] = {
            "encoder": AttentionResNetEncoder,
            "params": {"out_channels": [3, 64, 256, 512, 1024, 2048], "layers": blocks},
            "pretrained_settings": {},
        }
