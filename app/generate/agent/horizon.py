"""How many days a student's own words for "until when" leave."""

import re

from app.generate.agent.text import normal

DEFAULT_DAYS = 28
"""Without a word of time: a month's work, the length of a usual school project."""
SHORT_DAYS = 7
DAYS_MAX = 365

_UNITS = {
    "日": 1, "週間": 7, "か月": 30, "ヶ月": 30, "カ月": 30, "day": 1, "week": 7, "month": 30,
}  # fmt: skip
_NUMBERS = {
    "一": 1, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9, "十": 10,
    "a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6,
}  # fmt: skip
_COUNTED = re.compile(
    r"(?P<number>[0-9]{1,3}|[一二三四五六七八九十]|\b(?:a|one|two|three|four|five|six)\b)"
    r"\s*(?P<unit>日|週間|か月|ヶ月|カ月|day|week|month)"
)
_NAMED = (
    (re.compile(r"今日|today|tonight"), 1),
    (re.compile(r"明日|あさって|明後日|tomorrow"), 2),
    (re.compile(r"再来週"), 14),
    (re.compile(r"来週|next week|next (?:mon|tues|wednes|thurs|fri|satur|sun)day"), 10),
    (re.compile(r"今週|week|day\b|weekend|締め?切|deadline"), 5),
    (re.compile(r"来月|next month"), 45),
    (re.compile(r"今月|month"), 20),
    (re.compile(r"休み|学期|年内|term|semester|summer|christmas|year"), 60),
)


def horizon_days(time_horizon: str | None) -> int:
    """Return the days that a time horizon leaves, 1 to `DAYS_MAX`; `DEFAULT_DAYS` when it cannot be told."""
    if time_horizon is None:
        return DEFAULT_DAYS
    text = normal(time_horizon)
    if counted := _COUNTED.search(text):
        number, unit = counted["number"], _UNITS[counted["unit"]]
        return max(1, min(DAYS_MAX, (_NUMBERS.get(number) or int(number)) * unit))
    return next((days for pattern, days in _NAMED if pattern.search(text)), DEFAULT_DAYS)
