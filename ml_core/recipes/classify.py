"""Classification: logistic regression on an encoder's frozen features (paper, section IV-C)."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml_core.data.arrays.feature_store import stored_features
from ml_core.data.arrays.prepare import Prepared
from ml_core.data.loading.classification_data import ClassificationData, labelled
from ml_core.data.loading.device_array import DeviceArray
from ml_core.data.loading.view_pairs import mean_and_deviation
from ml_core.data.manifests.manifest import Manifest
from ml_core.errors import Stopped, UserError
from ml_core.exchange import imagenet
from ml_core.models import encoders
from ml_core.models.linear_classifier import Classifier
from ml_core.models.logistic_regression import Batches, Convergence, Examples, Scale, Solver, evaluated
from ml_core.models.unet import segmenter_from
from ml_core.recipes.classify_evaluation import Answers, grey_accuracy, report_results
from ml_core.recipes.dataset_inputs import open_images, open_manifest
from ml_core.runtime import weights
from ml_core.runtime.training_loop import Best, Context, Loop
from ml_core.specs import ClassifySpec

VERSION = 1
"""Part of every key of stored features: raised when the same encoder is to give other features."""
PIXELS = 64 * 224 * 224
"""Pixels per pass through the encoder: 64 images of 224 px."""
TONE_IMAGES = 64
"""The number of training images from which mean and deviation are computed for random weights."""


def run(context: Context[ClassifySpec]) -> None:
    """Computes every image's features once, trains the regression, and evaluates its best weights on the test part.

    Without a test part it evaluates on the validation part, and the results name the part.
    """
    spec = context.spec
    if spec.optimizer == "lbfgs" and context.inputs.extend is not None:
        raise UserError("L-BFGS has already converged, so more epochs change nothing. Start a new run, or take Adam.")
    manifest = open_manifest(context.inputs)
    data = labelled(manifest, rule=spec.split, seed=spec.seed)
    for sentence in data.sentences:
        context.reporter.note(sentence)
    images = open_images(context, manifest, size=spec.image_size)
    encoder = _encoder(context, images, data)
    network = _classifier(encoder, data, size=spec.image_size).to(context.device)
    features = _features(context, network, manifest, images, data)

    x = torch.from_numpy(np.array(features)).to(context.device)
    y = torch.from_numpy(data.labels).to(context.device)
    places = {name: torch.from_numpy(data.places(name)).to(context.device) for name in ("train", "validation")}
    scale = Scale.of(x[places["train"]]) if spec.standardise else Scale.none(x)
    train, validation = (Examples(scale(x[rows]), y[rows]) for rows in places.values())
    descent = _descent(spec, train, classes=len(data.classes))
    best = _train(context, descent, validation)

    descent.linear.load_state_dict(best.weights)
    with torch.no_grad():
        for own, folded in zip(network.linear.parameters(), scale.folded_into(descent.linear), strict=True):
            own.copy_(folded)
    _keep_classifier(context, network, encoder, step=best.step)
    chosen: dict[str, float] = (
        {"weight_decay": descent.weight_decay(best.step)} if isinstance(descent, Convergence) else {}
    )
    report_results(
        context,
        Answers.of(network.linear, x, data=data, manifest=manifest),
        images=images,
        grey_accuracy=grey_accuracy(images, data),
        best_step=best.step,
        best_epoch=-(-best.step // descent.steps_per_epoch),
        features=x.shape[1],
        origin=encoder.facts.get("origin"),
        **chosen,
    )


def _train(context: Context[ClassifySpec], descent: Solver, validation: Examples) -> Best:
    """Trains and reports the losses; of the steps that `descent` offers, returns the weights of the best one.

    The best has the least validation cross-entropy, not the highest accuracy: on few images accuracy changes in steps
    and has ties.
    """
    best = Best()
    loop = Loop(
        context,
        total_steps=descent.total_steps,
        steps_per_epoch=descent.steps_per_epoch,
        state={"linear": descent.linear, "optimizer": descent.optimizer, "best": best},
    )
    for step in loop:
        loop.point("loss/train", descent.step(step))
        if loop.ends_epoch:
            loss, accuracy = evaluated(descent.linear, validation)
            loop.measure("loss/validation", loss)
            loop.measure("accuracy/validation", accuracy)
            if descent.offers(step):
                best.offer(descent.linear, score=-loss, step=step)
    return best


def _descent(spec: ClassifySpec, train: Examples, *, classes: int) -> Solver:
    if spec.optimizer == "lbfgs":
        return Convergence(train, classes=classes, epochs=spec.epochs)
    return Batches(
        train,
        classes=classes,
        epochs=spec.epochs,
        batch_size=spec.regression_batch,
        learning_rate=spec.learning_rate,
        seed=spec.seed,
    )


def _encoder(context: Context[ClassifySpec], images: Prepared, data: ClassificationData) -> weights.Encoder:
    """The encoder to evaluate: the given one, that of the given segmentation model, ImageNet's, or random weights."""
    spec, inputs = context.spec, context.inputs
    given = [name for name in ("encoder", "segmenter") if inputs.slot(name) is not None]
    if len(given) > 1:
        raise UserError("Choose an encoder or a segmentation model, not both: one encoder is judged.")
    if given == ["encoder"]:
        return weights.load_encoder(inputs.path("encoder"))
    if given == ["segmenter"]:
        return _of_segmenter(context)
    if spec.initial == "imagenet":
        return imagenet.imagenet(spec.architecture, path=None, keep=inputs.prepared / "weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        channels = 1 if spec.architecture == "casser" else encoders.CHANNELS
        network = encoders.build(spec.architecture, channels=channels)
    chosen = np.linspace(0, len(data.split.train) - 1, min(TONE_IMAGES, len(data.split.train))).round().astype(np.int64)
    mean, deviation = mean_and_deviation(images.array[data.split.train[chosen]])
    return weights.Encoder(
        tensors=network.state_dict(),
        architecture=spec.architecture,
        channels=channels,
        mean=(mean,) * channels,
        deviation=(deviation,) * channels,
        facts={"origin": "random"},
    )


def _of_segmenter(context: Context[ClassifySpec]) -> weights.Encoder:
    path = context.inputs.path("segmenter")
    found = weights.load(path)
    segmenter = segmenter_from(found, source=path.name)
    mean, deviation = (tuple(v.flatten().tolist()) for v in (segmenter.mean, segmenter.deviation))
    return weights.Encoder(
        tensors=segmenter.network.encoder.state_dict(),
        architecture=segmenter.architecture,
        channels=len(mean),
        mean=mean,
        deviation=deviation,
        facts={"origin": f"segmentation, begun from {found.facts.get('origin', 'unknown weights')}"},
    )


def _classifier(encoder: weights.Encoder, data: ClassificationData, *, size: int) -> Classifier:
    """The whole network, its linear layer still untrained, in evaluation mode."""
    network = Classifier(
        architecture=encoder.architecture,
        classes=data.classes,
        mean=encoder.mean,
        deviation=encoder.deviation,
        image_size=size,
    )
    encoders.load_weights(
        network.encoder, encoder.tensors, architecture=encoder.architecture, source="the chosen encoder"
    )
    return network.eval().to(memory_format=torch.channels_last)


def _features(
    context: Context[ClassifySpec], network: Classifier, manifest: Manifest, images: Prepared, data: ClassificationData
) -> NDArray[np.float32]:
    """The features (N, D) of the items with a label, in the order of `data.positions`."""
    feed = DeviceArray(images.array, device=context.device)

    def compute(first: int, end: int) -> NDArray[np.float32]:
        with torch.inference_mode(), context.autocast():
            found: Tensor = network.features(feed.batch(data.positions[first:end])[:, None].float() / 255)
        return found.float().cpu().numpy()

    def progress(done: int, total: int) -> None:
        context.reporter.progress(done, total, "images", stage="Computing features")
        if context.reporter.should_stop():
            raise Stopped(f"Stopped after the features of {done:,} of {total:,} images; the next start goes on there.")

    return stored_features(
        context.inputs.prepared,
        key=_key(context, network, manifest, data),
        count=len(data.positions),
        width=network.linear.in_features,
        batch=max(1, PIXELS // context.spec.image_size**2),
        compute=compute,
        progress=progress,
    )


def _key(context: Context[ClassifySpec], network: Classifier, manifest: Manifest, data: ClassificationData) -> str:
    """A key of all that decides the features: encoder and normalisation, the images, their size, the precision.

    Also the kind of device and the threads, which decide the last bits: a run's features must not depend on which
    run computed them first.
    """
    assert manifest.sha256, "a manifest without a hash cannot be told from another"
    digest = hashlib.sha256(
        f"{VERSION}/{manifest.sha256}/{context.spec.image_size}/{context.precision}/{context.device.type}/"
        f"{torch.get_num_threads()}/{network.architecture}/{network.mean.tolist()}/{network.deviation.tolist()}".encode()
    )
    digest.update(data.positions.tobytes())
    for name, tensor in sorted(network.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:40]


def _keep_classifier(
    context: Context[ClassifySpec], network: Classifier, encoder: weights.Encoder, *, step: int
) -> None:
    facts = {
        "architecture": encoder.architecture,
        "channels": encoder.channels,
        "mean": list(encoder.mean),
        "deviation": list(encoder.deviation),
        "origin": encoder.facts.get("origin", "imported"),
        "image_size": context.spec.image_size,
        "classes": list(network.classes),
        "step": step,
        # From which the split can be computed again: maps are made of images that it was not trained on.
        "split": context.spec.split,
        "seed": context.spec.seed,
    }
    path = context.artifacts / "classifier.safetensors"
    weights.save(path, network.state_dict(), facts=facts)
    context.reporter.artifact("classifier", path, **facts)
