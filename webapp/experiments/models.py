"""An experiment: a protocol, its jobs with their dependencies, and its report."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Experiment(models.Model):
    project = models.ForeignKey("projects.Project", models.CASCADE, related_name="experiments")
    name = models.CharField(max_length=200)
    protocol = models.CharField(max_length=50)
    preset = models.CharField(max_length=20)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name
