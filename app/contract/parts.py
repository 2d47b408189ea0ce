"""The parts of a stream: the AI SDK's UI message stream, version 1. Only described here; `ui_stream` writes it."""

import uuid
from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from app.contract.answers import AnswerMetadata, PerformanceMetrics, Seconds, TraceId
from telemetry.turn_trace import StageState


class StartMetadata(TypedDict):
    """What the message carries from its start on."""

    conversation_id: NotRequired[uuid.UUID]
    turn_id: uuid.UUID
    trace_id: TraceId


class StartPart(TypedDict):
    """The message begins; its id is its turn's."""

    type: Literal["start"]
    messageId: uuid.UUID
    messageMetadata: StartMetadata


class StartStepPart(TypedDict):
    """Its only step begins."""

    type: Literal["start-step"]


class TextStartPart(TypedDict):
    """Its text begins."""

    type: Literal["text-start"]
    id: str


class TextDeltaPart(TypedDict):
    """Its text grows."""

    type: Literal["text-delta"]
    id: str
    delta: str


class TextEndPart(TypedDict):
    """Its text is complete."""

    type: Literal["text-end"]
    id: str


class StageData(TypedDict):
    """A stage that runs, or how it ended after so many seconds.

    `at` is when it began, in seconds from the turn's start. Fetches lie within `db_fetch`;
    `save.user` is the question's save, which runs while the model works.
    """

    stage: Literal[
        "db_fetch",
        "fetch.conversation",
        "fetch.project",
        "fetch.earlier",
        "llm.queue",
        "llm",
        "agent",
        "save.user",
        "db_save",
    ]
    state: StageState
    at: Seconds
    seconds: NotRequired[Seconds]


class StagePart(TypedDict):
    """A stage, live; shown, not kept."""

    type: Literal["data-stage"]
    data: StageData
    transient: Literal[True]


class QueueData(TypedDict):
    """Where in the model's queue the turn is; 1 is next. `estimated_wait` is in seconds."""

    position: Annotated[int, Field(ge=1)]
    estimated_wait: Seconds | None


class QueuePart(TypedDict):
    """The wait for the model, live; shown, not kept."""

    type: Literal["data-queue"]
    data: QueueData
    transient: Literal[True]


class FinishStepPart(TypedDict):
    """The step is over."""

    type: Literal["finish-step"]


class FinishPart(TypedDict):
    """The message is complete."""

    type: Literal["finish"]
    messageMetadata: AnswerMetadata


class StreamFault(TypedDict):
    """What a front end needs to decide whether to offer another try; `code` as in `Problem`."""

    code: str
    stage: NotRequired[str]
    retryable: bool
    retry_after: NotRequired[Seconds]


class FailureMetadata(TypedDict):
    """What a message that failed carries."""

    error: StreamFault
    performance_metrics: PerformanceMetrics


class MessageMetadataPart(TypedDict):
    """Comes before the error of a turn that failed."""

    type: Literal["message-metadata"]
    messageMetadata: FailureMetadata


class ErrorPart(TypedDict):
    """The turn failed; the sentence may be shown."""

    type: Literal["error"]
    errorText: str


class AbortPart(TypedDict):
    """The turn was stopped."""

    type: Literal["abort"]


StreamPart = Annotated[
    StartPart
    | StartStepPart
    | TextStartPart
    | TextDeltaPart
    | TextEndPart
    | StagePart
    | QueuePart
    | FinishStepPart
    | FinishPart
    | MessageMetadataPart
    | ErrorPart
    | AbortPart,
    Field(discriminator="type"),
]
