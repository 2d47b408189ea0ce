"""Who speaks in a turn: the tutor, which is the model and its instructions alone, or the agent (agent_speaker.py)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import trio

from app.generate.model_call import Generate
from app.turn import Draft, Grounding, Prompt, TurnRequest
from telemetry.turn_trace import TurnTrace


class Study(Protocol):
    """What a speaker works out beside its reply, to be shown with it."""

    def begin(self, nursery: trio.Nursery) -> None:
        """Work, in a task of `nursery`, which never raises a fault."""

    async def finish(self, draft: Draft) -> None:
        """Put what is there soon after the reply's end into the draft, and stop."""


class Speaker(Protocol):
    """Makes the answer of a turn."""

    def draft(self) -> Draft:
        """Return an empty draft of this speaker's."""

    def stage(self, trace: TurnTrace) -> AbstractContextManager[object]:
        """Return what the speaker's whole work is timed as."""

    def prepare(self, request: TurnRequest, grounding: Grounding, draft: Draft, trace: TurnTrace) -> str:
        """Return what the model must be told besides. Pure but for the draft; takes about a millisecond at most."""

    def study(self, request: TurnRequest, prompt: Prompt, draft: Draft, trace: TurnTrace) -> Study:
        """Return what is to be worked out beside the reply; it is run in the concurrent plan only."""

    async def speak(self, request: TurnRequest, prompt: Prompt, draft: Draft, trace: TurnTrace) -> None:
        """Grow the draft to the answer's end.

        Raises:
            ModelFault, StageTimeout, CallerFault: as `Generate` does.
        """


class NoStudy:
    """Nothing to work out."""

    def begin(self, nursery: trio.Nursery) -> None:
        """Do nothing."""

    async def finish(self, draft: Draft) -> None:
        """Return at once."""


class TutorSpeaker:
    """The model, under the tutor's instructions."""

    def __init__(self, generate: Generate) -> None:
        self._generate = generate

    def draft(self) -> Draft:
        """Return an empty draft of the model's."""
        return self._generate.draft()

    def stage(self, trace: TurnTrace) -> AbstractContextManager[object]:
        """Return nothing to be timed: the model's call is a stage of its own."""
        return nullcontext()

    def prepare(self, request: TurnRequest, grounding: Grounding, draft: Draft, trace: TurnTrace) -> str:
        """Return nothing: the tutor's instructions are all there is."""
        return ""

    def study(self, request: TurnRequest, prompt: Prompt, draft: Draft, trace: TurnTrace) -> Study:
        """Return nothing to be worked out."""
        return NoStudy()

    async def speak(self, request: TurnRequest, prompt: Prompt, draft: Draft, trace: TurnTrace) -> None:
        """Ask the model."""
        await self._generate(prompt, draft, trace)
