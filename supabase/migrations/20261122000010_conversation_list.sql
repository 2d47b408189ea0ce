-- The list of a user's conversations, newest activity first, a page at a time: without this index every page reads and
-- sorts all conversations that the user ever had. Each message that is stored moves its conversation's entry in it.
--
-- Locks: holds off writers of chat_conversations while it builds, well under a second per 100,000 conversations. Where
-- that is too long, run it by hand before, under the same name, with `create index concurrently`.
--
-- Search has no index of its own: what it reads is bounded by one user's own titles and messages, which the keys lead
-- to. A trigram index (pg_trgm) would be read for all users' messages at once, is of no use for the one or two
-- characters that a Japanese word often has, and would cost every message that is stored.

do $$
begin
  if exists (select from pg_index where not indisvalid
             and indexrelid = to_regclass('public.chat_conversations_user_id_updated_at_id_idx')) then
    raise exception 'index chat_conversations_user_id_updated_at_id_idx was left invalid by an interrupted build'
      using hint = 'Drop it and apply the migrations again.';
  end if;
  create index if not exists chat_conversations_user_id_updated_at_id_idx
    on public.chat_conversations (user_id, updated_at desc, id desc);
end
$$;
