-- A conversation that was made without a title ("new chat") has its first question as title, as one has that a question
-- makes: in one line, 40 characters of it. One that was given a title keeps that.
--
-- By the trigger that already writes the conversation of each message: no further statement, and whoever stores the
-- message, and when. Locks: none on the tables.

create or replace function public.touch_conversation() returns trigger
language plpgsql set search_path = ''
as $$
begin
  update public.chat_conversations
  set updated_at = greatest(updated_at, new.created_at),
      title = case when title is null and new.sender = 'user'
                   then nullif(left(btrim(regexp_replace(new.message, '[\s\u3000\u00a0]+', ' ', 'g')), 40), '')
                   else title end
  where id = new.conversation_id and (updated_at < new.created_at or (title is null and new.sender = 'user'));
  return null;
end
$$;
