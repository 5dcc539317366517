"""The real command line with a recipe of the test's own in the place of `intake`; what it does is its `filename`."""

from __future__ import annotations

import sys
import time
import types
from typing import Any

from ml_core.__main__ import main
from ml_core.errors import Stopped, UserError


def run(context: Any) -> None:
    """Says one point, then behaves."""
    behaviour = context.spec.filename
    context.reporter.point("loss/train", 1, 0.5)
    if behaviour == "wait":
        while not context.reporter.should_stop():
            time.sleep(0.01)
        raise Stopped("Stopped after step 1.")
    if behaviour == "deaf":
        while True:
            time.sleep(0.01)
    if behaviour == "mend":
        raise UserError("The stack has no slices. Upload it again.")
    if behaviour == "memory":
        raise MemoryError
    if behaviour == "disk":
        raise OSError(28, "No space left on device")
    if behaviour == "crash":
        raise KeyError("nobody expected this")


recipe = types.ModuleType("ml_core.recipes.intake")
recipe.run = run  # type: ignore[attr-defined]
sys.modules[recipe.__name__] = recipe

if __name__ == "__main__":
    code = main()
    assert "torch" not in sys.modules, "a kind that needs no torch has loaded it"
    sys.exit(code)
