"""The encoders by name, as forms and specifications use them; `ml_core.models.encoders` builds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ml_core.errors import UserError

STRIDE = 32
"""Every encoder halves the image five times: the sides of its input are multiples of this."""

WORKSPACE = 1.3
"""A factor for the gradients of activations, temporary in the backward pass, and for the allocator's reserve.

With it, peaks that were measured on a CPU (ResNet-18 and ResNet-50, BYOL and U-Net, float32 and bfloat16) were 0 to
14 % above the estimate."""

EncoderName = Literal["resnet18", "resnet50", "attention26", "attention50", "casser"]

ENCODERS: Mapping[str, str] = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "attention26": "Self-attention ResNet-26 (stand-alone)",
    "attention50": "Self-attention ResNet-50 (stand-alone)",
    "casser": "Casser et al. 2019 (smaller U-Net)",
}


def fitting(size: int) -> int:
    """`size` px, where encoders accept images of that side. Raises UserError with the nearest."""
    if size < STRIDE or size % STRIDE:
        nearest = max(STRIDE, round(size / STRIDE) * STRIDE)
        raise UserError(f"The size must be a multiple of {STRIDE}, and {size} is not. Take {nearest}.")
    return size
