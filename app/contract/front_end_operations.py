"""What front ends ask for: turns, streams, conversations and their messages."""

from app.contract.operation import JSON, Answer, Operation, one
from app.contract.problems import BODY, ROWS, SIGNED_IN, TURN

_STREAM = "text/event-stream"
_TIMED = {"server-timing": "ServerTiming"}
_PAGED = {"x-next-before": "NextBefore"}
_STREAMED = Answer(
    says="The turn as the AI SDK's UI message stream, version 1: `StreamPart` after `StreamPart`, then `[DONE]`.",
    content={_STREAM: "stream"},
    headers={"x-vercel-ai-ui-message-stream": "StreamVersion"},
)
_SAY = (
    "`message` asks in our own body, `messages` in the AI SDK's. What fails before the stream begins is told by its "
    "status: to our own body as `application/problem+json`, to the SDK's as the sentence alone, for it to show."
)
_CHAT_ID = ("AcceptLanguage", "ChatId")
_CONVERSATION = ("AcceptLanguage", "ConversationId")
_MESSAGES = {
    200: Answer(
        says="The newest messages, oldest first.",
        content={JSON: "[StoredMessage]|[UiMessage]"},
        examples=("messages", "messages_ui"),
        headers=_PAGED,
    )
}
_MESSAGES_SAY = "Older pages: `before` with what `x-next-before` gave."
_RESUMED = {200: _STREAMED, 204: Answer(says="There is no turn to come back to, or none of this user's.")}
_STOPPED = {200: Answer(says="Whether there was one.", content={JSON: "Stopped"}, examples=("stopped",))}
_RESUME_SAYS = "What came so far comes again, then what is new. The AI SDK's `resumeStream` asks here."


def _resume(rule: str, id_: str) -> Operation:
    return Operation(
        method="get",
        rule=rule,
        id=id_,
        tag="chat",
        summary="Come back to a chat's turn",
        says=_RESUME_SAYS,
        security="user",
        parameters=_CHAT_ID,
        answers=_RESUMED,
        codes=(*SIGNED_IN, "not_found", "draining"),
        problems="text",
    )


def _stop(rule: str, id_: str) -> Operation:
    return Operation(
        method="post",
        rule=rule,
        id=id_,
        tag="chat",
        summary="Stop a chat's turn",
        says="What there is of the answer is stored; those who follow it are told so.",
        security="user",
        parameters=_CHAT_ID,
        answers=_STOPPED,
        codes=(*SIGNED_IN, "not_found"),
        problems="either",
    )


FRONT_END: tuple[Operation, ...] = (
    Operation(
        method="post",
        rule="/chat",
        id="chat",
        tag="chat",
        summary="Ask, and get the answer",
        says=_SAY + " Our own body is answered as JSON, the SDK's as a stream.",
        security="user",
        parameters=("AcceptLanguage", "IdempotencyKey"),
        bodies=("ChatPayload", "UiBody"),
        answers={
            200: Answer(
                says="The answer: to our own body as JSON, to the AI SDK's as a stream of `StreamPart`.",
                content={JSON: "ChatAnswer", _STREAM: "stream"},
                examples=("chat",),
                headers=_TIMED,
            )
        },
        codes=(*SIGNED_IN, *BODY, *TURN),
        problems="either",
        counted=True,
        timed=True,
    ),
    Operation(
        method="post",
        rule="/chat/stream",
        id="chatStream",
        tag="chat",
        summary="Ask, and follow the answer",
        says=_SAY,
        security="user",
        parameters=("AcceptLanguage", "IdempotencyKey"),
        bodies=("ChatPayload", "UiBody"),
        answers={200: _STREAMED},
        codes=(*SIGNED_IN, *BODY, *TURN),
        problems="either",
        counted=True,
        timed=True,
    ),
    _resume("/chat/<path:chat_id>/stream", "resume"),
    _resume("/chat/stream/<path:chat_id>/stream", "resumeStream"),
    _stop("/chat/<path:chat_id>/stop", "stop"),
    _stop("/chat/stream/<path:chat_id>/stop", "stopStream"),
    Operation(
        method="get",
        rule="/chat/history",
        id="history",
        tag="conversations",
        summary="Messages of a conversation, by its id or its page key",
        says=_MESSAGES_SAY,
        security="user",
        parameters=("AcceptLanguage", "QueryConversation", "QueryPage", "Limit", "BeforeMessage", "Format"),
        answers=_MESSAGES,
        codes=(*SIGNED_IN, *ROWS, "invalid_request"),
    ),
    Operation(
        method="post",
        rule="/conversation-agent/chat",
        id="agentChat",
        tag="agent",
        summary="Ask the conversation agent",
        says="`mock_mode` is on unless it is switched off: the rules answer, and no model is called.",
        security="user",
        parameters=("AcceptLanguage", "IdempotencyKey"),
        bodies=("AgentPayload",),
        answers={200: one("AgentAnswer", "The answer.", "agent", **_TIMED)},
        codes=(*SIGNED_IN, *BODY, *TURN),
        counted=True,
        timed=True,
    ),
    Operation(
        method="get",
        rule="/conversation-agent/status",
        id="agentStatus",
        tag="agent",
        summary="What the conversation agent can do",
        security="user",
        parameters=("AcceptLanguage",),
        answers={200: one("AgentStatus", "What it can do.", "agent_status")},
        codes=SIGNED_IN,
    ),
    Operation(
        method="get",
        rule="/conversations",
        id="conversations",
        tag="conversations",
        summary="The user's conversations, or those with a text",
        security="user",
        parameters=("AcceptLanguage", "Limit", "BeforeConversation", "Search"),
        answers={
            200: Answer(
                says="Newest activity first.",
                content={JSON: "[Conversation]"},
                examples=("conversations",),
                headers=_PAGED,
            )
        },
        codes=(*SIGNED_IN, "database_unavailable", "invalid_request"),
    ),
    Operation(
        method="post",
        rule="/conversations",
        id="makeConversation",
        tag="conversations",
        summary="Make a conversation",
        says="It costs what a turn costs.",
        security="user",
        parameters=("AcceptLanguage",),
        bodies=("NewConversation",),
        answers={
            201: one("Conversation", "It is made.", "conversation", location="Location"),
            200: one("Conversation", "There is one of this page key already.", "conversation", location="Location"),
        },
        codes=(*SIGNED_IN, *BODY, "database_unavailable"),
        counted=True,
    ),
    Operation(
        method="get",
        rule="/conversations/<conversation_id>",
        id="conversation",
        tag="conversations",
        summary="A conversation",
        security="user",
        parameters=_CONVERSATION,
        answers={200: one("Conversation", "Without its messages.", "conversation")},
        codes=(*SIGNED_IN, *ROWS),
    ),
    Operation(
        method="patch",
        rule="/conversations/<conversation_id>",
        id="renameConversation",
        tag="conversations",
        summary="Rename a conversation",
        security="user",
        parameters=_CONVERSATION,
        bodies=("NewTitle",),
        answers={200: one("Conversation", "With its new title.", "conversation")},
        codes=(*SIGNED_IN, *ROWS, *BODY),
    ),
    Operation(
        method="delete",
        rule="/conversations/<conversation_id>",
        id="deleteConversation",
        tag="conversations",
        summary="Delete a conversation",
        says="Its page key is free for a new one.",
        security="user",
        parameters=_CONVERSATION,
        answers={204: Answer(says="It is gone.")},
        codes=(*SIGNED_IN, *ROWS),
    ),
    Operation(
        method="get",
        rule="/conversations/<conversation_id>/messages",
        id="messages",
        tag="conversations",
        summary="Messages of a conversation",
        says=_MESSAGES_SAY,
        security="user",
        parameters=(*_CONVERSATION, "Limit", "BeforeMessage", "Format"),
        answers=_MESSAGES,
        codes=(*SIGNED_IN, *ROWS, "invalid_request"),
    ),
)
