"""The body that the AI SDK's `DefaultChatTransport` posts, to a frozen value. Pure; every wrong field is named at once.

What the SDK sends (read in the sources of ai 5.0.0, 5.0.277, 6.0.0 and 6.0.324, which agree, and seen on the wire): one
object with the front end's own `body` fields, then `id`, `messages`, `trigger` and, unless undefined, `messageId`. Ids
that it makes are 16 random letters and digits, for the chat, and for each user message; an assistant message has the
`messageId` of its stream's `start`.

    what the user did                     | trigger            | messageId            | the messages end with
    --------------------------------------|--------------------|----------------------|----------------------------------
    sendMessage({text})                   | submit-message     | absent               | the new user message
    sendMessage({text, messageId}) (edit) | submit-message     | the edited message's | that message, same id, new text;
                                          |                    |                      | what came after it is cut off
    sendMessage() (try again)             | submit-message     | the last message's   | whatever was last: the question,
                                          |                    |                      | or the answer that was cut short
    regenerate()                          | regenerate-message | absent               | the last question; an answer to
                                          |                    |                      | it is cut off
    regenerate({messageId}) of an answer  | regenerate-message | the answer's         | its question
    regenerate({messageId}) of a question | regenerate-message | the question's       | that question

So the last user message is always the question, an edit keeps the id of the message it edits, and an id may come again
with another text: alone, it names no turn. Trying again looks like an edit that changes nothing.

The rest of the history is not looked at: the server has its own. It may hold what this server would refuse, since the
SDK sends a refused message along with the next one; assistant messages have parts of kinds `step-start` and `data-*`.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictInt, ValidationError

from app.errors import CallerFault
from app.receive.payload import (
    Context,
    Name,
    PayloadRules,
    Text,
    checked_message,
    sentences,
    turn_id,
)
from app.turn import TURN_IDS, OnDisconnect, TurnRequest

Trigger = Literal["submit-message", "regenerate-message"]


def _named(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


Key = Annotated[Name, AfterValidator(_named)]
Checked = TypeVar("Checked", bound=BaseModel)
FAR_BACK = 100
"""Messages in which one that is edited or asked again is looked for; an older one is asked as a new message."""
MOST_NAMED = 20
"""Wrong fields and parts that one reply names: a body has room for thousands."""


class UiBody(BaseModel):
    """The body that the AI SDK's `DefaultChatTransport` posts. What it has besides is not read."""

    model_config = ConfigDict(frozen=True)

    id: Key
    messages: list[Any]
    trigger: Trigger = "submit-message"
    messageId: Key | None = None  # noqa: N815 - the SDK's spelling
    on_disconnect: OnDisconnect | None = None
    project_id: StrictInt | Name | None = None
    page_id: Name | None = None
    context: Context | None = None


class _Question(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: Key
    parts: list[Any]


class _TextPart(BaseModel):
    model_config = ConfigDict(frozen=True)

    type: Literal["text"]
    text: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class UiRequest:
    """What a front end asks for with the AI SDK's body.

    `chat_id` is the user's conversation, or the page key of one. `target` is the id of the message that is edited,
    tried again or regenerated, as the SDK names it; None for a new message, and to regenerate the last answer.
    """

    chat_id: str
    question: str
    question_id: str
    trigger: Trigger = "submit-message"
    target: str | None = None
    on_disconnect: OnDisconnect | None = None
    project_id: str | None = None
    page_id: str | None = None
    context: str = ""

    @property
    def is_new(self) -> bool:
        """Whether the question was not asked before: only then does its id name the turn."""
        return self.trigger == "submit-message" and self.target is None

    @property
    def replaces(self) -> str | None:
        """The id of the message whose turn this one takes the place of: an answer's or a question's."""
        return None if self.is_new else self.target or self.question_id


def is_ui_body(value: object) -> bool:
    """Return whether a body is the AI SDK's and not ours: `messages` tells them apart."""
    return isinstance(value, Mapping) and "messages" in value and "message" not in value


def read_ui(value: Any, rules: PayloadRules) -> UiRequest:
    """Return what a body, read as JSON, asks for.

    Raises:
        CallerFault: `invalid_request` (its `fields` name each, as `messages.3.parts.1`), `message_empty`,
            `message_too_long`.
    """
    if not isinstance(value, dict):
        raise CallerFault("invalid_request", fields=["the body must be an object"])
    wrong: list[str] = []
    fields = _checked(UiBody, value, wrong)
    question, text = _question(value.get("messages"), wrong)
    if fields is None or question is None or wrong:
        raise CallerFault("invalid_request", fields=wrong[:MOST_NAMED])
    return UiRequest(
        chat_id=fields.id,
        question=checked_message(text, rules),
        question_id=question.id,
        trigger=fields.trigger,
        target=fields.messageId,
        on_disconnect=fields.on_disconnect,
        project_id=None if fields.project_id is None else str(fields.project_id),
        page_id=fields.page_id,
        context=(fields.context or "").strip(),
    )


def ui_turn(asked: UiRequest, user_id: str, rules: PayloadRules, key: str | None = None) -> TurnRequest:
    """Return the turn that is asked for. `key` is the request's `Idempotency-Key`, if it has one.

    Raises:
        CallerFault: as `payload.turn_id` does.
    """
    conversation_id = _uuid(asked.chat_id)
    return TurnRequest(
        turn_id=_turn_id(asked, user_id) if key is None else turn_id(user_id, key),
        user_id=user_id,
        message=asked.question,
        page_id=asked.chat_id,
        conversation_id=conversation_id,
        or_page=conversation_id is not None,
        project_id=asked.project_id,
        project_page=asked.page_id,
        context=asked.context,
        feature="chat" if rules.agent_newest is None else "agent",
        newest=_newest(asked, rules),
        message_id=asked.question_id,
        replaces=asked.replaces,
        on_disconnect=asked.on_disconnect or rules.on_disconnect,
    )


def _turn_id(asked: UiRequest, user_id: str) -> uuid.UUID:
    """Return the id of a turn: that of a new question is made of its id, which need be no other's in its chat alone."""
    if not asked.is_new:
        return uuid.uuid4()
    chat = f"{len(user_id)}:{user_id}:chat:{len(asked.chat_id)}:{asked.chat_id}"
    return uuid.uuid5(TURN_IDS, f"{chat}:{asked.question_id}")


def _uuid(chat_id: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(chat_id)
    except ValueError:
        return None


def _newest(asked: UiRequest, rules: PayloadRules) -> int | None:
    """Return how many messages are read: for one that was picked out, enough to find it far back."""
    return rules.agent_newest if asked.target is None else max(rules.agent_newest or 0, FAR_BACK)


def _question(messages: Any, wrong: list[str]) -> tuple[_Question | None, str]:
    """Return the last user message and its text; what is wrong with them joins `wrong`."""
    if not isinstance(messages, list):
        return None, ""  # named already
    last = (i for i in reversed(range(len(messages))) if _role(messages[i]) == "user")
    if (index := next(last, None)) is None:
        wrong.append("messages: must contain a user message")
        return None, ""
    at = f"messages.{index}."
    question = _checked(_Question, messages[index], wrong, at)
    parts = question.parts if question else []
    return question, "\n".join(_text(part, f"{at}parts.{i}", wrong) for i, part in enumerate(parts))


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _text(part: Any, name: str, wrong: list[str]) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        wrong.append(f"{name}: must be text; nothing else can be answered")
        return ""
    checked = _checked(_TextPart, part, wrong, f"{name}.")
    return checked.text if checked else ""


def _checked(model: type[Checked], value: Any, wrong: list[str], at: str = "") -> Checked | None:
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        wrong.extend(at + sentence for sentence in sentences(exc))
        return None
