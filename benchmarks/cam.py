"""Activation maps per second, ours beside the grad-cam package's own: the same ResNet-50, images, layer and precision.

    python -m benchmarks.cam [--images 4] [--rounds 3] [--score-cam]

Both sides run in turns in one process, and a side's figure is the median of its rounds, so that what else the machine
does meanwhile strikes both. The forward pass is common to both sides and most of an EigenCAM of ours; what we compute
otherwise, the projection of the layer's maps, is measured by itself as well. EigenCAM's sign is arbitrary: ours is set,
so maps are compared with either.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from torch import Tensor

from ml_core.models.activation_maps import activation_map, first_pattern
from ml_core.models.linear_classifier import Classifier
from ml_core.runtime.device import choose_device, device_name, set_threads
from ml_core.specs.cam import METHOD_NAMES

SIZE = 224
CLASS = 1
PACKAGE = {
    "gradcam": GradCAM,
    "gradcamplusplus": GradCAMPlusPlus,
    "layercam": LayerCAM,
    "eigencam": EigenCAM,
    "scorecam": ScoreCAM,
}
Maps = Callable[[Tensor], np.ndarray]


def packages_map(method: str, network: Classifier, x: Tensor, *, sign: int = 1) -> np.ndarray:
    """The package's map; with `sign` -1, that of the negated singular vector of EigenCAM, which is equally correct."""
    # The weights of a classifier may be frozen; then the package needs an input that requires a gradient.
    with PACKAGE[method](model=network, target_layers=[network.encoder.layer4]) as cam:
        if sign == -1:
            plain = cam.get_cam_image
            cam.get_cam_image = lambda *given: -plain(*given)
        return cam(input_tensor=x, targets=[ClassifierOutputTarget(CLASS)] * len(x))


def our_map(method: str, network: Classifier, x: Tensor) -> np.ndarray:
    targets = [ClassifierOutputTarget(CLASS)] * len(x)
    return activation_map(method, network, network.encoder.layer4, x, targets=targets)


def in_turns(sides: dict[str, Maps], x: Tensor, *, rounds: int) -> dict[str, float]:
    """Maps per second of each side, the median of its rounds; one round before is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            started = time.perf_counter()
            side(x)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: len(x) / statistics.median(taken) for name, taken in seconds.items()}


def difference(method: str, network: Classifier, x: Tensor) -> float:
    """The largest difference of a pixel between our maps and the package's."""
    found = our_map(method, network, x)
    signs = (1, -1) if method == "eigencam" else (1,)
    either = [packages_map(method, network, x, sign=sign) for sign in signs]
    return max(min(float(np.abs(found[n] - maps[n]).max()) for maps in either) for n in range(len(x)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--score-cam", action="store_true", help="Score-CAM too: minutes for each image on a CPU")
    options = parser.parse_args()
    device = choose_device()
    threads = set_threads(0)
    torch.manual_seed(0)
    network = Classifier(architecture="resnet50", classes="abc", mean=[0.5] * 3, deviation=[0.2] * 3, image_size=SIZE)
    network = network.eval().to(memory_format=torch.channels_last).to(device)
    x = torch.rand(options.images, 1, SIZE, SIZE, device=device)
    # Score-CAM takes 2,048 passes of the network for one image, so it runs only on request.
    methods = [method for method in PACKAGE if options.score_cam or method != "scorecam"]
    ours: dict[str, Maps] = {METHOD_NAMES[m]: partial(our_map, m, network) for m in methods}
    package: dict[str, Maps] = {METHOD_NAMES[m]: partial(packages_map, m, network) for m in methods}
    with torch.inference_mode():
        last_maps = network.encoder(network.normalised(x))[-1]
    ours["projection"] = lambda _: torch.stack([first_pattern(image) for image in last_maps]).cpu().numpy()
    package["projection"] = lambda _: get_2d_projection(last_maps.cpu().numpy())
    print(f"ResNet-50, {SIZE} px, layer4, {options.images} images at a time, float32")
    print(f"{device_name(device)}, {threads} threads")
    print(f"{'':10} {'ours, maps/s':>14} {'package, maps/s':>16} {'ratio':>7}")
    ratios = {}
    for name in ours:
        rate = in_turns({"ours": ours[name], "package": package[name]}, x, rounds=options.rounds)
        ratios[name] = rate["ours"] / rate["package"]
        print(f"{name:10} {rate['ours']:14.2f} {rate['package']:16.2f} {ratios[name]:6.1f}x")
    differences = {METHOD_NAMES[m]: difference(m, network, x) for m in methods}
    print("largest difference of a pixel, EigenCAM's up to sign:")
    print(", ".join(f"{name} {value:.1e}" for name, value in differences.items()))
    checks = [
        ("eigencam_times_faster_than_package", ratios["EigenCAM"], 2, ratios["EigenCAM"] >= 2),
        ("projection_times_faster_than_package", ratios["projection"], 25, ratios["projection"] >= 25),
    ]
    for method in methods:
        name, off = METHOD_NAMES[method], differences[METHOD_NAMES[method]]
        suffix = "_up_to_sign" if method == "eigencam" else ""
        checks.append((f"{method}_largest_difference{suffix}", off, 1e-3, off <= 1e-3))
        if method != "eigencam":
            checks.append((f"{method}_times_faster_than_package", ratios[name], 0.9, ratios[name] >= 0.9))
    print(json.dumps({"checks": [{"name": n, "value": v, "aim": a, "ok": ok} for n, v, a, ok in checks]}))


if __name__ == "__main__":
    main()
