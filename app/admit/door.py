"""The door: a turn that could not be served now is refused before anything is paid for it."""

from collections.abc import Callable

from app.errors import OverloadFault


class Door:
    """Refuses turns while the server drains, or while the embedded model loads.

    Args:
        model_ready: whether the model could be asked now.
    """

    def __init__(self, model_ready: Callable[[], bool]) -> None:
        self._model_ready = model_ready
        self.draining = False

    def check(self, *, needs_model: bool = True) -> None:
        """Let the turn pass; one that does not need the model may pass while that loads.

        Raises:
            OverloadFault: `draining` or `model_loading`, with `Retry-After`.
        """
        if self.draining:
            raise OverloadFault("draining")
        if needs_model and not self._model_ready():
            raise OverloadFault("model_loading")
