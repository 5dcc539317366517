"""Errors raised where a change to a dataset cannot be made."""


class EditRefused(Exception):
    """A change that was not made; the text says why and what to do."""


class UploadRefused(Exception):
    """An upload that is not begun; the text says why and what to do. `status` is the HTTP answer."""

    def __init__(self, sentence: str, *, status: int) -> None:
        super().__init__(sentence)
        self.status = status
