"""Finds the layer of a network from which activation maps are taken, by the same names for all architectures."""

from __future__ import annotations

from torch import nn

from ml_core.errors import UserError
from ml_core.models.casser_unet import CasserDecoder, CasserEncoder

DECODER = "decoder"
STAGES = ("layer2", "layer3", "layer4")


def stage_of(encoder: nn.Module, name: str) -> nn.Module:
    """The stage of `encoder` called `name` (one of STAGES), the last and coarsest being layer4.

    ResNets, with convolutions or attention, have stages of these names. Of Casser's encoder, which has five levels, the
    last three are used. Raises UserError for an encoder without such a stage.
    """
    if name not in STAGES:
        raise UserError(f"An encoder has no layer {name}. Choose {', '.join(STAGES[:-1])} or {STAGES[-1]}.")
    if isinstance(encoder, CasserEncoder):
        return encoder.levels[len(encoder.levels) - len(STAGES) + STAGES.index(name)]
    stage = getattr(encoder, name, None)
    if not isinstance(stage, nn.Module):
        raise UserError(f"This encoder has no stage {name}, so it cannot be mapped there. Choose another layer.")
    return stage


def decoder_of(network: nn.Module) -> nn.Module:
    """The layer of a segmentation network's decoder at which skip connections and the encoder's features are merged.

    The last block but one of a U-Net, of a U-Net++ and of Casser's network, at half of the image's size, as the last
    block nearly repeats the prediction. In an FPN the sum of its pyramid, at a quarter.
    """
    decoder = network.decoder
    if isinstance(decoder, CasserDecoder):
        return decoder.levels[1]
    if isinstance(merge := getattr(decoder, "merge", None), nn.Module):
        return merge
    blocks = getattr(decoder, "blocks", None)
    if isinstance(blocks, nn.ModuleDict):
        # `x_0_n` are the blocks of the top row, from coarse to fine.
        return blocks[sorted(name for name in blocks if name.startswith("x_0_"))[-2]]
    if isinstance(blocks, nn.ModuleList):
        return blocks[-2]
    raise UserError("This model's decoder is of an unknown kind. Choose a stage of its encoder as the layer.")
