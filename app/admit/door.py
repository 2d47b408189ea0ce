"""The door: a turn that could not be served now is refused before anything is paid for it."""

from collections.abc import Callable

from app.errors import OverloadFault

FULL_RETRY_S = 5.0
"""Before that, a disk or a database that was away is seldom back."""


class Door:
    """Refuses turns while the server drains, while the embedded model loads, while no answer could be kept, or while
    the wait for the model would be too long.

    Args:
        model_ready: whether the model could be asked now.
        has_room: whether the rows of a turn could be kept if the database failed.
        check_queue: raises the refusal of a turn that the gate would refuse (`Gate.check`).
    """

    def __init__(
        self,
        model_ready: Callable[[], bool],
        has_room: Callable[[], bool] = lambda: True,
        check_queue: Callable[[], None] = lambda: None,
    ) -> None:
        self._model_ready = model_ready
        self._has_room = has_room
        self._check_queue = check_queue
        self.draining = False

    def check(self, *, needs_model: bool = True) -> None:
        """Let the turn pass; one that does not need the model may pass while that loads, or is in demand.

        Raises:
            OverloadFault: `draining`, `model_loading`, or `overloaded` (the outbox is full, or too many wait for the
                model), with `Retry-After`.
        """
        if self.draining:
            raise OverloadFault("draining")
        if needs_model and not self._model_ready():
            raise OverloadFault("model_loading")
        if not self._has_room():
            raise OverloadFault(
                "overloaded", "the outbox or its disk is full", retry_after_s=FULL_RETRY_S, error_type="outbox_full"
            )
        if needs_model:
            self._check_queue()
