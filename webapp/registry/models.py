"""The registry of pretrained weights, trained here or imported."""

from __future__ import annotations

from django.db import models


class Origin(models.TextChoices):
    RANDOM = "random", "Random weights"
    IMAGENET = "imagenet", "ImageNet"
    BYOL = "byol", "BYOL"
    BYOL_COLOUR = "byol-colour", "BYOL with colour"
    IMPORTED = "imported", "Brought in"


class Encoder(models.Model):
    project = models.ForeignKey("projects.Project", models.CASCADE, related_name="encoders")
    name = models.CharField(max_length=200)
    origin = models.CharField(max_length=12, choices=Origin.choices)
    architecture = models.CharField(max_length=50)
    channels = models.PositiveSmallIntegerField()
    mean = models.JSONField()
    deviation = models.JSONField()
    sha256 = models.CharField(max_length=64)
    artifact = models.OneToOneField("jobs.Artifact", models.CASCADE, null=True, related_name="encoder")
    published = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
