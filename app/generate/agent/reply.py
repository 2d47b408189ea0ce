"""The reply that the rules give themselves, and what they tell a model that gives it."""

import re
import zlib
from collections.abc import Callable, Mapping, Sequence

from app.generate.agent.affect import HIGH
from app.generate.agent.facts import fact_about
from app.generate.agent.instructions import AIMS, FRAME, INSTRUCTIONS
from app.generate.agent.language import Language, language_of
from app.generate.agent.phrases import CHOICES, COMFORT, FITTING, QUOTED, THIS, WORDS
from app.generate.agent.plan import plan as rule_plan
from app.generate.agent.text import READ_CHARS, normal, sentences, tidy, units
from app.generate.agent.values import AgentView, SpeechAct, SupportType

QUOTE_CHARS = 40
TELLING_UNITS = 4
"""A sentence with fewer units ("yes", "thank you") is not worth a quotation."""
STEPS_SHOWN = 4
REPLY_CHARS = 1500
"""No reply of the rules is longer: four lines of steps and two wordings, with their quotations."""

_MARKUP = re.compile(r"[<>*_`#\[\]{}|\\「」\"]+")


def act_instructions(acts: Sequence[SpeechAct], support: SupportType, language: Language) -> str:
    """Return the lines of a system prompt that tell a model how to perform the acts; no student's words are in them."""
    opening, closing = FRAME[language]
    steps = [f"{number}. {INSTRUCTIONS[act][language]}" for number, act in enumerate(acts, 1)]
    return "\n".join([opening.format(aim=AIMS[support][language], type=support), *steps, closing])


def rule_reply(view: AgentView, message: str) -> str:
    """Return a reply to `message` that performs the view's acts in their order, in its language.

    The same view and message always get the same words. What it quotes of the student is short and without markup,
    and their topic is quoted once.
    """
    pick = zlib.crc32(message.encode("utf-8", "replace"))
    parts = "\n\n".join(_FILLED.get(act, _with_topic)(act, view, message, pick) for act in view.acts.acts)
    topic = _topic(view, message)
    opening, quoted, rest = parts.partition(topic)
    return opening + quoted + rest.replace(topic, THIS[view.language])


def _with_topic(act: SpeechAct, view: AgentView, message: str, pick: int) -> str:
    wordings = FITTING.get((view.support.type, act), WORDS[act])[view.language]
    return _wording(wordings, pick).format(topic=_topic(view, message))


def _reflect(act: SpeechAct, view: AgentView, message: str, pick: int) -> str:
    if view.snapshot.affect.anxiety >= HIGH:
        return _wording(COMFORT[view.language], pick)
    return _with_topic(act, view, message, pick)


def _inform(act: SpeechAct, view: AgentView, message: str, pick: int) -> str:
    fact = fact_about(normal(message[:READ_CHARS]), view.language)
    return _wording(WORDS[act][view.language], pick).format(fact=fact)


def _outline(act: SpeechAct, view: AgentView, _message: str, pick: int) -> str:
    titles = _shown([milestone.title for milestone in view.plan.milestones], view.language)
    if not titles:
        ruled = rule_plan(view.snapshot, view.language, view.decided_at)
        titles = [milestone.title for milestone in ruled.milestones]
    steps = "\n".join(f"{number}. {title}" for number, title in enumerate(titles[:STEPS_SHOWN], 1))
    return _wording(WORDS[act][view.language], pick).format(steps=steps)


def _decide(act: SpeechAct, view: AgentView, message: str, pick: int) -> str:
    if (view.support.type, act) in FITTING:
        return _with_topic(act, view, message, pick)
    options = _shown(view.snapshot.options_considered, view.language)
    quoted = [QUOTED[view.language].format(option) for option in options]
    listed = {"ja": "、", "en": ", "}[view.language].join(quoted) or CHOICES[view.language]
    return _wording(WORDS[act][view.language], pick).format(options=listed)


def _act(act: SpeechAct, view: AgentView, _message: str, pick: int) -> str:
    steps = _shown([action.action for action in view.plan.next_actions], view.language)
    if not steps:
        ruled = rule_plan(view.snapshot, view.language, view.decided_at)
        steps = [action.action for action in ruled.next_actions]
    step = steps[0] if view.language == "ja" else steps[0][0].lower() + steps[0][1:]
    return _wording(WORDS[act][view.language], pick).format(step=step.rstrip("。."))


_FILLED: Mapping[SpeechAct, Callable[[SpeechAct, AgentView, str, int], str]] = {
    "Reflect": _reflect,
    "Inform": _inform,
    "Outline": _outline,
    "Decide": _decide,
    "Act": _act,
}


def _wording(wordings: Sequence[str], pick: int) -> str:
    return wordings[pick % len(wordings)]


def _topic(view: AgentView, message: str) -> str:
    """Return what the reply is about: the last message's first telling sentence, else the goal, else "this"."""
    telling = [text for text in sentences(message[:READ_CHARS])[:3] if len(units(normal(text))) >= TELLING_UNITS]
    quotes = _shown([*telling, view.snapshot.goal or ""], view.language, QUOTE_CHARS)
    return QUOTED[view.language].format(quotes[0]) if quotes else THIS[view.language]


def _shown(texts: Sequence[str], language: Language, chars: int = 80) -> list[str]:
    """Return the texts that are in the reply's language, short and without markup."""
    clean = (tidy(_MARKUP.sub(" ", text), chars).rstrip("。.？?！!") for text in texts)
    return [text for text in clean if text and language_of(text, default=language) == language]
