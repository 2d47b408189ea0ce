"""The door: a turn that could not be served now is refused before anything is paid for it."""

from collections.abc import Callable

from app.errors import OverloadFault

RETRY_AFTER_DRAIN_S = 5.0
"""Another process, or this one restarted, should answer by then."""
RETRY_AFTER_LOADING_S = 2.0
"""The embedded model loads in about a second once its file is in memory, in some five from a cold disk."""


class Door:
    """Refuses turns while the server drains, or while the embedded model loads.

    Args:
        model_ready: whether the model could be asked now.
    """

    def __init__(self, model_ready: Callable[[], bool]) -> None:
        self._model_ready = model_ready
        self.draining = False

    def check(self) -> None:
        """Let the turn pass.

        Raises:
            OverloadFault: `draining` or `model_loading`, with `Retry-After`.
        """
        if self.draining:
            raise OverloadFault("draining", retry_after_s=RETRY_AFTER_DRAIN_S)
        if not self._model_ready():
            raise OverloadFault("model_loading", retry_after_s=RETRY_AFTER_LOADING_S)
