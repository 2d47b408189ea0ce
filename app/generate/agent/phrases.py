"""What each speech act says without a model: wordings by language, and better fitting ones for some support types.

`{topic}` is a quotation of the student, or the word for "this"; the other places are filled by `reply`.
"""

from collections.abc import Mapping

from app.generate.agent.language import Language
from app.generate.agent.values import SpeechAct, SupportType

THIS: Mapping[Language, str] = {"ja": "いま考えていること", "en": "this"}
QUOTED: Mapping[Language, str] = {"ja": "「{}」", "en": '"{}"'}

WORDS: Mapping[SpeechAct, Mapping[Language, tuple[str, ...]]] = {
    "Reflect": {
        "ja": (
            "ここまで話してくれてありがとうございます。{topic}について、いま一番気になっているのはどこですか？",
            "いったん立ち止まってみましょう。{topic}で、ここまでに分かったことを一言で言うと何ですか？",
        ),
        "en": (
            "Thank you for telling me. About {topic}: what is on your mind most at the moment?",
            "Let us pause for a moment. About {topic}: what have you learned so far, in one sentence?",
        ),
    },
    "Clarify": {
        "ja": (
            "確かめさせてください。{topic}のうち、一番大事にしたいのはどの部分ですか？",
            "{topic}について、もう少し教えてください。具体的には、誰の、いつの、どこの話ですか？",
        ),
        "en": (
            "Let me make sure I understand. In {topic}, which part matters most to you?",
            "Tell me a little more about {topic}: whom, when and where is it about?",
        ),
    },
    "Probe": {
        "ja": (
            "{topic}について、あなたはどうなると予想しますか？そう思う理由は何ですか？",
            "{topic}の予想が正しければ、何が見えるはずだと思いますか？",
        ),
        "en": (
            "What is your own guess about {topic}, and what makes you think so?",
            "If you are right about {topic}, what would you expect to see?",
        ),
    },
    "Reframe": {
        "ja": (
            "見方を変えてみましょう。もし反対の立場の人なら、{topic}をどう説明すると思いますか？",
            "予想と違うことや行き止まりは、失敗ではなく手がかりです。{topic}で、"
            "当たり前だと思っていた前提を一つ外すと、何が見えてきますか？",
        ),
        "en": (
            "Let us look at it from another side. How would someone who disagrees explain {topic}?",
            "A surprise or a dead end is a clue, not a failure. If you drop one thing that you took for granted "
            "about {topic}, what do you see?",
        ),
    },
    "Inform": {"ja": ("{fact}",), "en": ("{fact}",)},
    "Outline": {
        "ja": ("進み方は、例えばこうです。\n{steps}\n今はどこにいると思いますか？",),
        "en": ("A way to go could be this:\n{steps}\nWhere are you in it now?",),
    },
    "Decide": {
        "ja": (
            "{options}を、知りたい気持ち・手に入るデータ・かかる時間の三つで比べてみましょう。"
            "一番外せない条件を先に決めると、選びやすくなります。",
            "{options}から選ぶ前に、「これだけは譲れない」という基準を一つ決めましょう。"
            "基準に合わないものから外していけば十分です。",
        ),
        "en": (
            "Compare {options} by three things: how much you want to know it, the data you can get, and the time it "
            "takes. Settle first which of the three you cannot give up.",
            "Before you choose among {options}, name one criterion that must hold, and drop what does not meet it.",
        ),
    },
    "Act": {
        "ja": (
            "次の小さな一歩です：{step}。うまくいかなくても大丈夫なので、まず試してみましょう。",
            "今日できることを一つだけ：{step}。終わったら、どうだったか教えてください。",
        ),
        "en": (
            "One small next step: {step}. It does not have to go well, just give it a try.",
            "Just one thing for today: {step}. Tell me afterwards how it went.",
        ),
    },
}

COMFORT: Mapping[Language, tuple[str, ...]] = {
    "ja": (
        "不安になるのは、それだけ真剣に取り組んでいるからですね。いま一番重く感じているのは、どの部分ですか？",
        "話してくれてありがとうございます。心配な気持ちはよくわかります。その中で、"
        "自分で変えられるのはどの部分ですか？",
    ),
    "en": (
        "It makes sense to feel worried: you take this seriously. Which part weighs on you most?",
        "Thank you for telling me, that does sound hard. Which part of it is in your own hands?",
    ),
}
"""`Reflect` for an anxious student."""

CHOICES: Mapping[Language, str] = {"ja": "考えられる選択肢", "en": "your options"}

FITTING: Mapping[tuple[SupportType, SpeechAct], Mapping[Language, tuple[str, ...]]] = {
    ("意思決定", "Probe"): {
        "ja": (
            "いまの時点では、どれに気持ちが傾いていますか？そう思う理由は何ですか？",
            "どれかを選んだとして、半年後に「選んでよかった」と思うのは、どんなときですか？",
        ),
        "en": (
            "Which one are you leaning towards now, and why?",
            "Suppose you have chosen: what would make you glad of it in half a year?",
        ),
    },
    ("意思決定", "Clarify"): {
        "ja": ("確かめさせてください。選ぶときに一番困っているのは、どの点ですか？",),
        "en": ("Let me make sure I understand: what makes it hardest to choose?",),
    },
    ("視点転換", "Probe"): {
        "ja": (
            "いまの考えや結果は、何を当たり前だと思うことで成り立っていますか？",
            "いまの考えに一番合わない事実は、何だと思いますか？",
        ),
        "en": (
            "What does your present view, or result, take for granted?",
            "Which fact fits your present view least?",
        ),
    },
    ("道筋提示", "Clarify"): {
        "ja": (
            "まず確かめさせてください。いま決まっていることと、まだ決まっていないことは何ですか？",
            "いまのところ、どこまで進んでいますか？",
        ),
        "en": (
            "First, let me make sure I understand: what is settled already, and what is not?",
            "How far have you come by now?",
        ),
    },
    ("絞り込み", "Clarify"): {
        "ja": (
            "いろいろ見えているのは強みです。その中で、一つしか調べられないとしたら、どれを残しますか？",
            "広く考えられていますね。具体的には、誰の、いつの、どこの話を一番知りたいですか？",
        ),
        "en": (
            "Seeing so much is a strength. If you could study only one part of it, which would you keep?",
            "You think widely. Whose case, when and where, do you want to know about most?",
        ),
    },
    ("絞り込み", "Decide"): {
        "ja": (
            "残すものを決めるより、今回は扱わないことを決めるほうが楽なことがあります。"
            "手に入るデータで答えられないものから外しましょう。",
            "場所・時期・相手のうち一つを決めるだけで、問いはずいぶん小さくなります。まずどれか一つを決めましょう。",
        ),
        "en": (
            "It can be easier to decide what to leave out: begin with what the data you can get will not answer.",
            "Settling one of place, time or group makes a question much smaller. Settle one of them first.",
        ),
    },
    ("行動活性化", "Reflect"): {
        "ja": (
            "動き出せないときは、最初の一歩が大きすぎることがよくあります。どこで手が止まりますか？",
            "始めるのが一番大変ですよね。これまで、どんなときなら手を付けられましたか？",
        ),
        "en": (
            "When it is hard to begin, the first step is often too big. Where do you get stuck?",
            "Beginning is the hardest part. When did you last manage to get started, and what helped?",
        ),
    },
}
