#!/usr/bin/env python3
"""Cristae's command line. `manage.py up` runs everything on one machine; the rest is Django's."""

import os
import signal
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever calls this with an old Python gets a sentence
    sys.exit("Cristae needs Python 3.11, 3.12 or 3.13. Run `make setup`, then .venv/bin/python manage.py.")

if __name__ == "__main__":
    if sys.argv[1:2] == ["up"]:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing runs yet: Ctrl-C while it loads just ends it
        # Makes the database that Django's settings ask for, so it comes before Django.
        from webapp.local.up import main

        sys.exit(main(sys.argv[2:]))

    from webapp.local.variables import adopt

    adopt()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ModuleNotFoundError:
        sys.exit("Cristae is not installed in this Python. Run `make setup`, then .venv/bin/python manage.py.")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"{error} Start `manage.py up` first, or set the variable.")
