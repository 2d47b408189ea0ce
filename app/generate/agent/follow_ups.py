"""What a student can do next, offered under the reply: three short wordings per support type."""

from collections.abc import Mapping, Sequence

from app.generate.agent.language import Language
from app.generate.agent.values import FOLLOW_UPS_MAX, SpeechAct, SupportType

HEADING: Mapping[Language, str] = {"ja": "**次にできること:**", "en": "**What you can do next:**"}

_BY_TYPE: Mapping[SupportType, Mapping[Language, tuple[str, ...]]] = {
    "理解深化": {
        "ja": ("自分の予想を一文で書く", "根拠になるデータを一つ探す", "わかったことを自分の言葉で説明する"),
        "en": ("Write your own guess in one sentence", "Find one piece of evidence", "Explain it in your own words"),
    },
    "道筋提示": {
        "ja": ("最初の段階だけを決める", "わからないことを一つ選んで質問する", "締め切りから逆算して予定を書く"),
        "en": ("Settle the first stage only", "Pick one unknown and ask about it", "Plan backwards from the deadline"),
    },
    "視点転換": {
        "ja": ("反対の立場から三行で書く", "別の人に考えを聞いてみる", "前提を一つ書き出して疑ってみる"),
        "en": (
            "Argue the other side in three lines",
            "Ask someone else for a view",
            "Name one assumption and doubt it",
        ),
    },
    "行動活性化": {
        "ja": ("10分だけ手を動かす", "一番小さな作業を一つ書く", "できたことを一つ報告する"),
        "en": ("Work on it for ten minutes", "Write down the smallest piece of work", "Report one thing you did"),
    },
    "絞り込み": {
        "ja": ("一番知りたいことを一つ選ぶ", "今回は扱わないことを決める", "場所・時期・相手を一つに決める"),
        "en": (
            "Choose what you want to know most",
            "Decide what to leave out this time",
            "Settle on one place, time or group",
        ),
    },
    "意思決定": {
        "ja": ("選ぶ基準を一つ決める", "選択肢を表にして比べる", "一つを選んで理由を書く"),
        "en": ("Settle one criterion", "Compare the options in a table", "Choose one and write down why"),
    },
}

_DOES: Mapping[SpeechAct, int] = {"Act": 0, "Decide": 1, "Reframe": 1}
"""What an act already proposed itself goes to the end of the list: by its place in the type's wordings."""


def follow_ups(support: SupportType, acts: Sequence[SpeechAct], language: Language) -> tuple[str, ...]:
    """Return up to three things to do next; what the reply's own acts propose comes last."""
    wordings = _BY_TYPE[support][language]
    proposed = {_DOES[act] for act in acts if act in _DOES}
    ranked = sorted(range(len(wordings)), key=lambda place: place in proposed)
    return tuple(wordings[place] for place in ranked)[:FOLLOW_UPS_MAX]


def follow_up_list(follow_ups: Sequence[str], language: Language) -> str:
    """Return the follow-ups as a Markdown list under its heading; nothing when there are none."""
    if not follow_ups:
        return ""
    return "\n".join([HEADING[language], *(f"- {item}" for item in follow_ups)])
