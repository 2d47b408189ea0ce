"""The rows of a rule-made plan: stretches of a research project, next actions, approaches, risks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.generate.agent.affect import HIGH
from app.generate.agent.horizon import SHORT_DAYS, horizon_days
from app.generate.agent.language import Language
from app.generate.agent.support import TOO_BROAD
from app.generate.agent.values import Snapshot

Fits = Callable[[Snapshot], bool]
Words = Mapping[Language, str]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A milestone: it ends when `share` of the time is over. `skippable` when time is short."""

    title: Words
    description: Words
    criteria: Mapping[Language, tuple[str, ...]]
    share: float
    skippable: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A next action for whom it `fits`; urgency and importance are 1 to 5."""

    fits: Fits
    action: Words
    urgency: int
    importance: int
    reason: Words
    outcome: Words


def is_short(now: Snapshot) -> bool:
    """Return whether a week or less is left."""
    return horizon_days(now.time_horizon) <= SHORT_DAYS


def is_anxious(now: Snapshot) -> bool:
    """Return whether anxiety is high."""
    return now.affect.anxiety >= HIGH


def is_too_broad(now: Snapshot) -> bool:
    """Return whether the scope calls for narrowing."""
    return now.progress_signal.scope_breadth > TOO_BROAD


def is_looping(now: Snapshot) -> bool:
    """Return whether the student goes in circles."""
    return bool(now.progress_signal.looping_signals)


STRETCHES = (
    Stretch(
        {"ja": "問いを一文にする", "en": "One clear question"},
        {
            "ja": "知りたいことを、調べて答えられる一つの問いにします。",
            "en": "Turn what you want to know into one question that you can answer.",
        },
        {
            "ja": ("問いが一文で書けている", "何が分かれば答えになるか言える"),
            "en": ("The question is one sentence", "You can say what would answer it"),
        },
        0.2,
    ),
    Stretch(
        {"ja": "小さく試す", "en": "A small trial"},
        {
            "ja": "方法を小さく一度試し、うまくいかない所を直します。",
            "en": "Try your method once on a small scale and mend what does not work.",
        },
        {
            "ja": ("一度試した記録がある", "直す点を一つ挙げられる"),
            "en": ("One trial is on record", "You can name one thing to change"),
        },
        0.4,
        skippable=True,
    ),
    Stretch(
        {"ja": "データを集める", "en": "Gather the data"},
        {
            "ja": "決めた方法で観察・調査し、同じ形で記録します。",
            "en": "Observe or ask in the way you decided, and record it in one form.",
        },
        {
            "ja": ("必要な数の記録がそろっている", "日時と条件が書いてある"),
            "en": ("The records you need are there", "Each has its date and conditions"),
        },
        0.75,
    ),
    Stretch(
        {"ja": "考えをまとめて伝える", "en": "Conclude and share"},
        {
            "ja": "データから言えることと言えないことを分け、人に伝えます。",
            "en": "Separate what the data says from what it does not, and tell others.",
        },
        {
            "ja": ("答えと根拠を一つずつ言える", "一人に説明して質問をもらった"),
            "en": ("You can give an answer and its evidence", "One person heard it and asked a question"),
        },
        1.0,
    ),
)

STEPS = (
    Step(
        is_anxious,
        {"ja": "10分だけ、一番小さな作業を始める", "en": "Start the smallest piece of work, for ten minutes only"},
        5,
        4,
        {"ja": "始めると不安は小さくなりやすいため", "en": "Worry tends to shrink once you have begun"},
        {"ja": "最初の一歩が終わっている", "en": "The first step is behind you"},
    ),
    Step(
        is_too_broad,
        {
            "ja": "調べたいことを三つ書き出し、一つに丸を付ける",
            "en": "Write down three things you want to study and circle one",
        },
        4,
        5,
        {"ja": "範囲が広いと手を付けにくいため", "en": "A wide scope is hard to begin with"},
        {"ja": "扱う範囲が一つに決まる", "en": "The scope is one thing"},
    ),
    Step(
        lambda now: len(now.options_considered) > 1,
        {
            "ja": "選択肢を、興味・データ・時間の三点で比べる表を作る",
            "en": "Compare the options in a table: interest, data, time",
        },
        4,
        4,
        {"ja": "比べる基準があると選びやすいため", "en": "It is easier to choose by criteria"},
        {"ja": "一つを理由と一緒に選べる", "en": "You can choose one and say why"},
    ),
    Step(
        is_looping,
        {
            "ja": "今の考えに反対の立場から、三行で言い返してみる",
            "en": "Argue against your current idea in three lines",
        },
        3,
        5,
        {"ja": "同じ考えから離れるきっかけになるため", "en": "It loosens a thought that keeps coming back"},
        {"ja": "新しい見方が一つ見つかる", "en": "You have one new view"},
    ),
    Step(
        lambda now: bool(now.uncertainties),
        {
            "ja": "わからないことを一つ選び、誰に、または何で確かめるか決める",
            "en": "Pick one thing you do not know and decide whom or what to ask",
        },
        4,
        4,
        {"ja": "一つずつなら確かめられるため", "en": "One at a time, they can be settled"},
        {"ja": "確かめる相手か資料が決まる", "en": "You know where the answer will come from"},
    ),
    Step(
        lambda now: bool(now.blockers),
        {
            "ja": "妨げになっていることを一つ、先生か友人に話す",
            "en": "Tell a teacher or a friend about one thing that blocks you",
        },
        4,
        3,
        {"ja": "話すと別の方法が見つかりやすいため", "en": "Talking often shows another way"},
        {"ja": "別の方法が一つ出る", "en": "There is one other way to try"},
    ),
    Step(
        lambda now: now.last_action is not None,
        {"ja": "最近やったことから分かったことを二文で書く", "en": "Write two sentences on what your last step showed"},
        3,
        4,
        {"ja": "分かったことが次の問いになるため", "en": "What you found leads to the next question"},
        {"ja": "次に確かめることが見える", "en": "You see what to check next"},
    ),
    Step(
        lambda now: now.goal is None,
        {"ja": "知りたいことを疑問文一つで書く", "en": "Write what you want to know as one question"},
        3,
        5,
        {"ja": "問いが決まると方法が決まるため", "en": "The question decides the method"},
        {"ja": "問いが一文になる", "en": "You have a question in one sentence"},
    ),
    Step(
        lambda _: True,
        {"ja": "問いに答えるために必要なデータを一つ挙げる", "en": "Name one piece of data that your question needs"},
        2,
        4,
        {"ja": "集めるものが具体的になるため", "en": "It makes clear what to gather"},
        {"ja": "集めるデータが一つ決まる", "en": "One kind of data is chosen"},
    ),
)

APPROACHES: tuple[tuple[Fits, Words], ...] = (
    (is_anxious, {"ja": "小さな一歩を重ねて、安心できる範囲を広げる。", "en": "Take small steps and let them add up."}),
    (
        is_too_broad,
        {"ja": "一つに絞って深く調べ、残りは後に回す。", "en": "Go deep into one part and leave the rest for later."},
    ),
    (is_looping, {"ja": "別の立場や方法から問いを見直す。", "en": "Look at the question from another side."}),
    (
        is_short,
        {"ja": "残り時間から逆算し、必要なことだけをする。", "en": "Plan backwards from the deadline."},
    ),
    (
        lambda _: True,
        {
            "ja": "問い、方法、データ、考察の順に、一つずつ確かめながら進める。",
            "en": "Go from question to method, data and conclusion, checking each.",
        },
    ),
)

RISKS: tuple[tuple[Fits, Words], ...] = (
    (is_short, {"ja": "時間が足りなくなる", "en": "Time runs out"}),
    (is_too_broad, {"ja": "範囲が広く、どれも浅くなる", "en": "A wide scope leaves everything shallow"}),
    (is_anxious, {"ja": "不安で始めるのが遅れる", "en": "Worry delays the start"}),
    (is_looping, {"ja": "同じ考えに戻り続ける", "en": "The same thought keeps coming back"}),
    (lambda now: bool(now.blockers), {"ja": "妨げが残ったままになる", "en": "What blocks you stays"}),
    (lambda _: True, {"ja": "必要なデータが集まらない", "en": "The data needed cannot be had"}),
)
