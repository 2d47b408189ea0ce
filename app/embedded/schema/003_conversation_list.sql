-- The list of a user's conversations, newest activity first.

create index chat_conversations_user_id_updated_at_id_idx on chat_conversations (user_id, updated_at desc, id desc);
