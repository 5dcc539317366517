"""The Celery app of a worker process: `celery -A worker.app worker -P threads -c SLOTS -Q QUEUE`.

`manage.py work` starts one process per queue.
"""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # the system checks import every page

from webapp.broker import app

app.conf.imports = (
    "worker.tasks",
    "worker.selftest",
    "worker.process_signals",
)  # imported by Celery after Django's setup

__all__ = ["app"]
