"""Activation maps per second, ours beside the grad-cam package's own: the same ResNet-50, images, layer and precision.

    python -m benchmarks.cam [--images 4] [--rounds 3]

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

import numpy as np
import torch
from pytorch_grad_cam import EigenCAM, GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from torch import Tensor

from ml_core.models.activation_maps import eigen_cam, first_pattern, grad_cam
from ml_core.models.linear_classifier import Classifier
from ml_core.runtime.device import choose_device, device_name, set_threads

SIZE = 224
CLASS = 1
Maps = Callable[[Tensor], np.ndarray]


def packages_eigen_cam(network: Classifier, x: Tensor, *, sign: int = 1) -> np.ndarray:
    """As the package makes it; with `sign` -1, of the other of the two singular vectors that are equally right."""
    with EigenCAM(model=network, target_layers=[network.encoder.layer4]) as cam:
        plain = cam.get_cam_image
        cam.get_cam_image = lambda *given: sign * plain(*given)
        return cam(input_tensor=x, targets=[None] * len(x))


def packages_grad_cam(network: Classifier, x: Tensor) -> np.ndarray:
    # The weights of a classifier may be frozen; then the package needs an input that asks for a gradient.
    with GradCAM(model=network, target_layers=[network.encoder.layer4]) as cam:
        return cam(input_tensor=x, targets=[ClassifierOutputTarget(CLASS)] * len(x))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    device = choose_device()
    threads = set_threads(0)
    torch.manual_seed(0)
    network = Classifier(architecture="resnet50", classes="abc", mean=[0.5] * 3, deviation=[0.2] * 3, image_size=SIZE)
    network = network.eval().to(memory_format=torch.channels_last).to(device)
    layer = network.encoder.layer4
    x = torch.rand(options.images, 1, SIZE, SIZE, device=device)

    def score(logits: Tensor) -> Tensor:
        return logits[:, CLASS].sum()

    ours: dict[str, Maps] = {
        "EigenCAM": lambda x: eigen_cam(network, layer, x),
        "Grad-CAM": lambda x: grad_cam(network, layer, x, score=score),
    }
    package: dict[str, Maps] = {
        "EigenCAM": lambda x: packages_eigen_cam(network, x),
        "Grad-CAM": lambda x: packages_grad_cam(network, x),
    }
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
    found = ours["EigenCAM"](x)
    either = [packages_eigen_cam(network, x, sign=sign) for sign in (1, -1)]
    eigen_off = max(min(float(np.abs(found[n] - maps[n]).max()) for maps in either) for n in range(len(x)))
    grad_off = float(np.abs(ours["Grad-CAM"](x) - package["Grad-CAM"](x)).max())
    print(f"largest difference of a pixel: EigenCAM up to sign {eigen_off:.1e}, Grad-CAM {grad_off:.1e}")
    checks = [
        ("eigencam_times_faster_than_package", ratios["EigenCAM"], 2, ratios["EigenCAM"] >= 2),
        ("projection_times_faster_than_package", ratios["projection"], 25, ratios["projection"] >= 25),
        ("eigencam_largest_difference_up_to_sign", eigen_off, 1e-3, eigen_off <= 1e-3),
        ("gradcam_times_faster_than_package", ratios["Grad-CAM"], 0.9, ratios["Grad-CAM"] >= 0.9),
        ("gradcam_largest_difference", grad_off, 1e-3, grad_off <= 1e-3),
    ]
    print(json.dumps({"checks": [{"name": n, "value": v, "aim": a, "ok": ok} for n, v, a, ok in checks]}))


if __name__ == "__main__":
    main()
