"""Grounding and question to the prompt. Pure: no I/O, no clock, no settings but those it is given."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from app.standing import history as history_of
from app.turn import Grounding, Project, Prompt, PromptMessage, StoredMessage, TurnRequest

PROJECT_LINE = (("テーマ", "theme", 30), ("問い", "question", 25), ("仮説", "hypothesis", 25))
"""Label, field, and the most characters of it."""


@dataclass(frozen=True, slots=True)
class PromptRules:
    """The tutor's instructions, how many characters a whole prompt may have, and how many messages of the history.

    Those are for a turn that takes the place of another alone: to find that one, more may have been read.
    """

    instructions: str
    max_chars: int
    newest: int = 20
    newest_for_long: int = 50


def build_prompt(rules: PromptRules, request: TurnRequest, grounding: Grounding, more: str = "") -> Prompt:
    """Return the prompt: instructions (and `more` of them), project and context; the history's turns; the question.

    What does not fit `max_chars` goes: the oldest turns first, then the end of the page's context, never the question.
    """
    system = _system(rules, request, grounding.project, more)
    room = rules.max_chars - len(system) - len(request.message)
    history_rows = history_of(grounding)[-_most(rules, request) if request.replaces else 0 :]
    turns = answered_turns(request.shown_of(history_rows))
    kept = _newest_that_fit(turns, room)
    history = [PromptMessage(message.sender, message.message) for turn in kept for message in turn]
    return Prompt(
        messages=(PromptMessage("system", system), *history, PromptMessage("user", request.message)),
        history_count=len(history),
        warnings=("history_shortened",) if len(kept) < len(turns) else (),
    )


def _most(rules: PromptRules, request: TurnRequest) -> int:
    return rules.newest_for_long if request.is_long or request.feature == "agent" else rules.newest


def _system(rules: PromptRules, request: TurnRequest, project: Project | None, more: str) -> str:
    parts = [rules.instructions.strip(), more]
    if project is not None and (line := project_line(project)):
        parts.append(line)
    if request.context:
        used = sum(len(part) + 2 for part in parts) + len(request.message)
        parts.append(request.context[: max(0, rules.max_chars - used)])
    return "\n\n".join(part for part in parts if part)


def project_line(project: Project) -> str:
    """Return the project as the one line `[テーマ:…|問い:…|仮説:…]`; a field that is empty is left out."""
    fields = []
    for label, name, most in PROJECT_LINE:
        text = " ".join(getattr(project, name).split()).translate(_DELIMITERS)
        if text:
            fields.append(f"{label}:{text[:most]}")
    return f"[{'|'.join(fields)}]" if fields else ""


_DELIMITERS = str.maketrans({"[": "［", "]": "］", "|": "｜"})  # the line's own; a text must not close it


def answered_turns(messages: Iterable[StoredMessage]) -> list[tuple[StoredMessage, StoredMessage]]:
    """Return the turns that have a question and an answer's text, oldest first, each as that pair.

    Rows of one turn belong together even when another turn's rows lie between them. Rows without a turn id, as older
    back ends wrote them, pair up with their neighbours.
    """
    rows = list(messages)
    turns = [*_turns_by_id(rows), *_turns_by_order([row for row in rows if row.turn_id is None])]
    return sorted(turns, key=lambda turn: turn[0].created_at)


def _turns_by_id(rows: Sequence[StoredMessage]) -> list[tuple[StoredMessage, StoredMessage]]:
    by_turn: dict[str, dict[str, StoredMessage]] = {}
    for row in rows:
        if row.turn_id is not None:
            by_turn.setdefault(row.turn_id, {})[row.sender] = row
    pairs = [(turn["user"], turn["assistant"]) for turn in by_turn.values() if len(turn) == 2]
    return [pair for pair in pairs if pair[1].message.strip()]


def _turns_by_order(rows: Sequence[StoredMessage]) -> list[tuple[StoredMessage, StoredMessage]]:
    runs = [list(run)[-1] for _, run in groupby(rows, key=lambda row: row.sender)]
    pairs = pairwise(runs)
    return [(ask, reply) for ask, reply in pairs if ask.sender == "user" and reply.message.strip()]


def _newest_that_fit(
    turns: Sequence[tuple[StoredMessage, StoredMessage]], room: int
) -> Sequence[tuple[StoredMessage, StoredMessage]]:
    first = len(turns)
    while first > 0 and (room := room - sum(len(row.message) for row in turns[first - 1])) >= 0:
        first -= 1
    return turns[first:]
