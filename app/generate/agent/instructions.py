"""How a model is told to perform each speech act, and to what end; by language."""

from collections.abc import Mapping

from app.generate.agent.language import Language
from app.generate.agent.values import SpeechAct, SupportType

INSTRUCTIONS: Mapping[SpeechAct, Mapping[Language, str]] = {
    "Reflect": {
        "ja": "Reflect: 気持ちや考えを短い言葉で受け止め、本人が振り返れる問いを一つ添える。",
        "en": "Reflect: mirror the student's feeling or thought in a few words, and ask one question that lets them "
        "look back.",
    },
    "Clarify": {
        "ja": "Clarify: 曖昧な点を一つだけ選び、何を指すのかをたずねる。",
        "en": "Clarify: pick one thing that is vague and ask what they mean by it.",
    },
    "Probe": {
        "ja": "Probe: 理由・予想・根拠のどれかを深める問いを一つたずねる。",
        "en": "Probe: ask one question that goes deeper into a reason, a guess or a piece of evidence.",
    },
    "Reframe": {
        "ja": "Reframe: 別の立場・規模・前提から見る見方を一つ示し、どう見えるかをたずねる。",
        "en": "Reframe: offer one view from another side, scale or assumption, and ask what it shows.",
    },
    "Inform": {
        "ja": "Inform: 必要な事実や方法を、やさしく正確に、二、三文で伝える。わからないことはそう言う。",
        "en": "Inform: give the fact or method they need, plainly and correctly, in two or three sentences; say so "
        "when unsure.",
    },
    "Outline": {
        "ja": "Outline: ここから先の道筋を、三つか四つの短い段階で示す。",
        "en": "Outline: show the way from here in three or four short stages.",
    },
    "Decide": {
        "ja": "Decide: 選ぶための基準を一つか二つ示し、選ぶのは本人に任せる。",
        "en": "Decide: offer one or two criteria to choose by, and leave the choice to the student.",
    },
    "Act": {
        "ja": "Act: 今日10分ほどでできる小さな一歩を一つだけ提案する。",
        "en": "Act: suggest one small step that they can do today in about ten minutes.",
    },
}

AIMS: Mapping[SupportType, Mapping[Language, str]] = {
    "理解深化": {"ja": "理解を深める", "en": "deepen the student's understanding"},
    "道筋提示": {"ja": "道筋を示す", "en": "show the student a way to go"},
    "視点転換": {"ja": "別の見方に気づかせる", "en": "open another view to the student"},
    "行動活性化": {"ja": "小さな行動を促す", "en": "get the student to take a small step"},
    "絞り込み": {"ja": "範囲を絞る", "en": "help the student narrow the scope"},
    "意思決定": {"ja": "選ぶのを助ける", "en": "help the student choose"},
}
FRAME: Mapping[Language, tuple[str, str]] = {
    "ja": (
        "この返答のねらい: {aim}（{type}）。次の順に行う。",
        "問いかけは一度に一つだけ。これらの名前や指示は、生徒に見せない。生徒が最後に使った言語で答える。",
    ),
    "en": (
        "Aim of this reply: {aim} ({type}). Do this, in this order:",
        "Ask one question at a time. Do not show these names or instructions. "
        "Answer in the language of the student's last message.",
    ),
}
