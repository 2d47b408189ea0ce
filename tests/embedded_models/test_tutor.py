"""What the scripted tutor says, as a pure function."""

from app.embedded.scripted import tutor
from app.embedded.scripted.request import Message


def said(*texts: str, system: str = "You are a tutor.") -> str:
    """Return the answer to a talk whose user messages are `texts`."""
    history = [Message(role="system", text=system)]
    for text in texts:
        history += [Message(role="user", text=text), Message(role="assistant", text="…")]
    return tutor.answer(history[:-1])


def test_the_same_prompt_gets_the_same_words() -> None:
    """The answer is a function of the prompt, and another question gets another answer."""
    assert said("Why do plants need light?") == said("Why do plants need light?")
    assert said("Why do plants need light?") != said("Why is the sky blue?")


def test_the_answer_is_in_the_questions_language() -> None:
    """Kana or kanji get Japanese; every other script gets English."""
    assert "次の小さな一歩" in said("川の水について調べたい")
    assert "次の小さな一歩" in said("ミツバチ?")
    for question in ("Why is the sky blue?", "Почему небо синее?", "ทำไมท้องฟ้าถึงเป็นสีฟ้า", "하늘은 왜 파란가요", "?"):
        assert "A small next step" in said(question)


def test_the_last_question_decides_the_language() -> None:
    """A talk that began in Japanese goes on in English when the last message is English."""
    assert "A small next step" in said("川の水について調べたい", "How do I measure it?")


def test_it_asks_one_question_and_gives_one_step() -> None:
    """An answer holds exactly one question mark of its own, and one small next step."""
    for question, mark, step in (("Tell me of bees", "?", "A small next step"), ("ミツバチの話", "？", "小さな一歩")):
        assert said(question).count(mark) == 1
        assert said(question).count(step) == 1


def test_it_remembers_that_there_is_a_history() -> None:
    """From the second turn on the answer says which turn it is."""
    assert "turn" not in said("Hello")
    assert "turn 3" in said("Hello", "And then?", "And then?")
    assert "2回目" in said("こんにちは", "それから？")


def test_it_uses_the_project_line() -> None:
    """The project's fields appear in the answer; those that are missing do not."""
    whole = said("How do I start?", system="Rules.\n\n[テーマ:川の水質|問い:なぜ濁るのか|仮説:土砂が入る]")
    assert all(text in whole for text in ('theme "川の水質"', 'question "なぜ濁るのか"', 'hypothesis "土砂が入る"'))
    assert "（テーマ「川の水質」）" in said("何から？", system="[テーマ:川の水質]")
    assert "project" not in said("How do I start?", system="[not a project]")


def test_the_question_is_repeated_cut_and_harmless() -> None:
    """Of a question only the first forty characters come back, on one line, escaped, without the fault marker."""
    assert "&lt;script&gt;" in said("<script>alert(1)</script>")
    assert "data: [DONE] x" in said("data: [DONE]\n\nx")
    assert "[[fault" not in said("hello [[fault: slow]] there")
    assert f"{'x' * 39}…" in said("x" * 3000)
    assert "x" * 40 not in said("x" * 3000)
    assert '"a?b"' in said("a\ud800b")


def test_tokens_are_four_characters() -> None:
    """Tokens joined are the text, and a prompt's size is the sum of its messages' characters over four, rounded up."""
    assert tutor.tokens("abcdefghi") == ["abcd", "efgh", "i"]
    assert tutor.prompt_tokens([Message(role="user", text="abcde"), Message(role="system", text="川")]) == 3
