"""The REST API under /api/v1/; its description is at /api/v1/openapi.json."""

from __future__ import annotations

from django.urls import path
from ninja import NinjaAPI

from webapp.api import datasets, edits, jobs, kinds, projects
from webapp.api.auth import AUTH

# No built-in documentation page: it would load scripts from a CDN.
api = NinjaAPI(title="Cristae", version="1", auth=AUTH, docs_url=None)
api.add_router("/projects", projects.router)
api.add_router("/datasets", datasets.router)
api.add_router("/datasets", edits.router)
api.add_router("/jobs", jobs.router)
api.add_router("/kinds", kinds.router)

_patterns, _app_name, _namespace = api.urls
for _pattern in _patterns:
    # Ninja answers 401 itself; the middleware would redirect a script to the sign-in page.
    _pattern.callback.login_required = False  # type: ignore[union-attr]

urlpatterns = [path("api/v1/", (_patterns, _app_name, _namespace))]
