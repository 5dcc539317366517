"""Linear probes: classifiers of one linear layer on an encoder's frozen features (paper, section IV-C)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ml_core.errors import UserError
from ml_core.models import encoders
from ml_core.runtime.weights import Weights


class Classifier(nn.Module):
    """Grey images (B, 1, H, W) in 0..1 to logits (B, K), one per class in the order of `classes`.

    The grey channel is repeated and normalised with the mean and deviation that the encoder was trained with. It was
    trained on whole images at `image_size`; other sizes work too, if they are multiples of 32.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        architecture: str,
        classes: Sequence[str],
        mean: Sequence[float],
        deviation: Sequence[float],
        image_size: int,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.classes = tuple(classes)
        self.image_size = image_size
        self.encoder = encoders.build(architecture, channels=len(mean))
        self.linear = nn.Linear(encoders.feature_size(self.encoder), len(self.classes))
        # Facts of the encoder, stored with the weights but not in the state dict.
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1), persistent=False)

    def normalised(self, grey: Tensor) -> Tensor:
        """The encoder's input: (B, channels, H, W)."""
        return (grey.expand(-1, self.mean.shape[1], -1, -1) - self.mean) / self.deviation

    def features(self, grey: Tensor) -> Tensor:
        """The feature vectors (B, D) float32: the encoder's last map, averaged over its places.

        Averaged in float32, under autocast too: where images differ little, bfloat16 would round the difference away.
        """
        last: Tensor = self.encoder(self.normalised(grey).contiguous(memory_format=torch.channels_last))[-1]
        return last.float().mean(dim=(2, 3))

    def forward(self, grey: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.features(grey))
        return logits


def classifier_from(weights: Weights, *, source: str) -> Classifier:
    """Builds a trained classifier from the file `source`, in evaluation mode. Raises UserError where it is not one."""
    facts = weights.facts
    missing = [name for name in ("architecture", "classes", "mean", "deviation", "image_size") if name not in facts]
    if missing or "linear.weight" not in weights.tensors:
        lack = ", ".join(missing) or "linear layer"
        raise UserError(
            f"{source} does not say its {lack}, so it is not a classifier of a classify job. Choose the artifact "
            "classifier of such a job."
        )
    classifier = Classifier(
        architecture=str(facts["architecture"]),
        classes=[str(name) for name in facts["classes"]],
        mean=[float(v) for v in facts["mean"]],
        deviation=[float(v) for v in facts["deviation"]],
        image_size=int(facts["image_size"]),
    )
    try:
        classifier.load_state_dict(weights.tensors)
    except RuntimeError as error:
        raise UserError(
            f"The weights in {source} do not fit a classifier of {len(classifier.classes)} classes on "
            f"{classifier.architecture}. Choose the artifact classifier of a classify job."
        ) from error
    return classifier.eval()


def new_like(classifier: Classifier) -> Classifier:
    """The same network with new random weights."""
    return Classifier(
        architecture=classifier.architecture,
        classes=classifier.classes,
        mean=classifier.mean.flatten().tolist(),
        deviation=classifier.deviation.flatten().tolist(),
        image_size=classifier.image_size,
    )
