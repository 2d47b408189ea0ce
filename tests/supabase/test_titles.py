"""What a conversation is called that was made without a title, on a real PostgreSQL."""

import psycopg
import pytest

from app.conversations import title_of

TALK: tuple[tuple[str, str], ...] = (("assistant", "Welcome"), ("user", ""), ("user", "What is it?"), ("user", "Why?"))
QUESTIONS = ("What is a hypothesis?", "  a\n\tlong\r\n   one　で　", "川" * 100, "a " * 30, "\u00a0仮説\u3000とは")


def titled(conninfo: str, title: str | None, *talk: tuple[str, str]) -> str | None:
    """Return the title of a conversation that was made with one, or none, once those senders have said these things."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("insert into users (id) values ('u') on conflict do nothing")
        made = connection.execute(
            "insert into chat_conversations (id, user_id, title, page_id)"
            " values (gen_random_uuid(), 'u', %s, gen_random_uuid()::text) returning id",
            [title],
        ).fetchone()
        assert made
        for sender, message in talk:
            connection.execute(
                "insert into chat_logs (user_id, sender, message, conversation_id, created_at)"
                " values ('u', %s, %s, %s, now())",
                [sender, message, made[0]],
            )
        found = connection.execute("select title from chat_conversations where id = %s", made).fetchone()
    assert found
    return str(found[0]) if found[0] is not None else None


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_the_first_question_names_a_conversation_without_a_title(migrated: str, question: str) -> None:
    """It is the title that a conversation has which the question makes."""
    assert titled(migrated, None, ("user", question)) == title_of(question)


def test_only_a_question_with_words_does_and_only_once(migrated: str) -> None:
    """Neither an answer nor an empty message, nor the second question."""
    assert titled(migrated, None, *TALK) == "What is it?"
    assert titled(migrated, None, *TALK[:2]) is None


def test_a_title_that_was_given_stays(migrated: str) -> None:
    """Whatever is said."""
    assert titled(migrated, "Mine", *TALK) == "Mine"


def test_a_message_of_an_older_time_names_it_too(migrated: str) -> None:
    """One that was delivered late does not move the conversation, and names it all the same."""
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("insert into users (id) values ('u')")
        made = connection.execute(
            "insert into chat_conversations (id, user_id, page_id) values (gen_random_uuid(), 'u', 'p')"
            " returning id, updated_at"
        ).fetchone()
        assert made
        connection.execute(
            "insert into chat_logs (user_id, sender, message, conversation_id, created_at)"
            " values ('u', 'user', 'Late', %s, now() - interval '1 day')",
            [made[0]],
        )
        found = connection.execute("select updated_at, title from chat_conversations").fetchone()
    assert found == (made[1], "Late")
