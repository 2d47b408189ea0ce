"""Plain facts about research methods, for `Inform` without a model: common ground of school research, no opinion."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.generate.agent.language import Language


@dataclass(frozen=True, slots=True)
class Fact:
    """What a topic's words are, in both languages at once, and what to say of it."""

    topic: re.Pattern[str]
    words: Mapping[Language, str]


FACTS = (
    Fact(
        re.compile(r"相関|因果|correlat|causa(?:l|tion)"),
        {
            "ja": "二つが一緒に変わること（相関）と、一方がもう一方を引き起こすこと（因果）は別です。"
            "たとえば睡眠と成績が一緒に高くても、生活の規則正しさが両方を高めているのかもしれません。",
            "en": "Two things that change together are correlated; that one brings the other about is causation. "
            "Sleep and "
            "grades may rise together because a regular life helps both.",
        },
    ),
    Fact(
        re.compile(r"何人|サンプル|標本|人数|sample|how many (?:people|students|answers|participants)|twenty people"),
        {
            "ja": "人数は、どれくらいの差を見たいかで決まります。傾向をつかむだけなら30人ほど、グループを比べるなら"
            "グループごとに30人ほどが目安で、誰に聞いたかの偏りのほうが人数より効くこともあります。",
            "en": "How many people you need depends on how small a difference you want to see. Around 30 per group "
            "is a "
            "common rule of thumb, and whom you ask can matter more than how many.",
        },
    ),
    Fact(
        re.compile(r"質的|量的|qualitative|quantitative"),
        {
            "ja": "量的調査は数で「どれくらい」を、質的調査は言葉や行動で「なぜ・どのように」を調べます。"
            "先に少人数に話を聞き、そこから質問紙を作る組み合わせもよく使われます。",
            "en": "Quantitative work counts how much or how many; qualitative work uses words and behaviour to learn "
            "why "
            "and how. Talking to a few people first often makes a better questionnaire.",
        },
    ),
    Fact(
        re.compile(r"有意|p値|p-?value|significan"),
        {
            "ja": "有意差とは、本当は差がないとしたら、これほどの差が偶然ではめったに出ない、という意味です。"
            "差が大きいことや重要であることとは別です。",
            "en": "A p-value says how rarely a difference this large would appear by chance if there were none in "
            "truth. "
            "It does not say that the difference is large or important.",
        },
    ),
    Fact(
        re.compile(r"対照|rct|ランダム化|control group|randomi[sz]ed"),
        {
            "ja": "対照群は、調べたい条件だけがない比較の相手です。くじなどで無作為に分けると、"
            "ほかの違いが両方に散らばります。身近な実験でもこの考え方は使えます。",
            "en": "A control group is treated the same but for the one condition you study. Dividing by lot spreads "
            "all "
            "other differences over both groups, and that works in small experiments too.",
        },
    ),
    Fact(
        re.compile(r"アンケート|質問紙|survey|questionnaire|bias"),
        {
            "ja": "アンケートは、一つの質問で一つのことだけを聞き、答えを誘う言い方を避けると偏りが減ります。"
            "本番の前に三人ほどに試すと、わかりにくい質問が見つかります。",
            "en": "A survey is less biased when each question asks one thing and does not hint at an answer. Trying "
            "it on "
            "three people first shows which questions are unclear.",
        },
    ),
    Fact(
        re.compile(r"インタビュー|面接|聞き取り|interview"),
        {
            "ja": "聞き取りでは、答えやすい事実から始め、「はい・いいえ」で終わらない聞き方をし、"
            "黙っている時間も待つと話が出やすくなります。",
            "en": "Interviews open up when you begin with easy facts, ask what cannot be answered by yes or no, and "
            "bear "
            "a silence for a few seconds.",
        },
    ),
    Fact(
        re.compile(r"文献|論文|先行研究|資料|参考|literature|sources?\b|references?\b|papers?\b"),
        {
            "ja": "文献は、図書館の目録や論文検索で、言葉を変えながら探します。"
            "よい一冊が見つかったら、その参考文献の一覧から次をたどれます。",
            "en": "Look for sources in a library catalogue or a search engine for papers, with several wordings. The "
            "reference list of one good source leads to the next.",
        },
    ),
    Fact(
        re.compile(r"グラフ|表に|graph|chart|plot"),
        {
            "ja": "量を項目ごとに比べるなら棒グラフ、時間による変化なら折れ線グラフ、"
            "二つの量の関係なら散布図が向いています。",
            "en": "Bars compare amounts between groups, a line shows change over time, and a scatter plot shows how "
            "two "
            "amounts go together.",
        },
    ),
    Fact(
        re.compile(r"仮説|hypothes"),
        {
            "ja": "仮説は「もし…なら、…になるはずだ。なぜなら…」の形で書くと、"
            "何を測れば確かめられるかが見えてきます。外れても、それは一つの発見です。",
            "en": 'A hypothesis reads "if …, then …, because …": written so, it shows what to measure. One that proves '
            "wrong is a finding too.",
        },
    ),
    Fact(
        re.compile(r"問い|research question|into a question|my question"),
        {
            "ja": "調べればすぐ答えが出る問いは、「なぜ」「どのように」「どの条件で」を足すと、"
            "比べたり確かめたりできる問いになります。",
            "en": "A topic becomes a question you can answer once it names what you compare or measure, where and "
            "when: "
            "add why, how, or under which condition.",
        },
    ),
)

GENERAL: Mapping[Language, str] = {
    "ja": "研究では、観察したこと（事実）と、そこから考えたこと（解釈）を分けて書くと、考えが確かめやすくなります。",
    "en": "In research it helps to write down what you observed apart from what you conclude from it, so that either "
    "can "
    "be checked.",
}


def fact_about(folded: str, language: Language) -> str:
    """Return a fact on the first topic that a message names, else a general one.

    Args:
        folded: the message, as `text.normal` returns it.
        language: of the fact.
    """
    found = next((fact for fact in FACTS if fact.topic.search(folded)), None)
    return found.words[language] if found else GENERAL[language]
