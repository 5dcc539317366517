"""The presets of every kind of job, by kind and name; the first name is the one to offer first."""

from __future__ import annotations

from typing import Any

# Only what differs from the model's defaults, which are the paper's wherever the paper says something.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "colorize": {
        "recommended": {"method": "structured"},
        "paper": {"method": "eccv16"},
        "quick": {"method": "structured", "image_size": 64},
    },
    "pretrain": {
        "recommended": {"views": "colour+crop", "epochs": 200, "batch_size": 128, "momentum_schedule": "cosine"},
        "paper": {"precision": "float32"},
        "quick": {
            "encoder": "resnet18",
            "image_size": 64,
            "epochs": 30,
            "batch_size": 16,
            "hidden_size": 512,
            "projection_size": 128,
            "points_every": 2,
            "pictures_every": 50,
            "checkpoint_seconds": 10,
        },
    },
    "segment": {
        "recommended": {
            "weights": "fine-tuned",
            "framing": "crops",
            "image_size": 256,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "schedule": "cosine",
        },
        "paper": {"validation": "random", "precision": "float32"},
        "quick": {
            "encoder": "resnet18",
            "weights": "fine-tuned",
            "image_size": 64,
            "epochs": 30,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "points_every": 1,
            "checkpoint_seconds": 10,
        },
    },
    "cam": {
        "recommended": {"layer": "decoder"},
        "paper": {},
        "quick": {"image_size": 64, "images": 4, "layer": "decoder"},
    },
}
