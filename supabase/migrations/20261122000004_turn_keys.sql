-- Messages of a turn: the key that makes a repeated save the same row, the index that serves the newest history, the
-- relationships that PostgREST needs to embed one table in another, and the trigger that tells when a conversation was
-- last spoken in.
--
-- Locks: `create index` holds off writers of chat_logs while it builds (seconds per million rows). A transaction cannot
-- build `concurrently`. On a table where that is too long, apply the files before this one and then run these two by hand,
-- under the same names; `if not exists` then finds them done:
--   create unique index concurrently chat_logs_turn_id_sender_key on public.chat_logs (turn_id, sender);
--   create index concurrently chat_logs_conversation_id_created_at_id_idx
--     on public.chat_logs (conversation_id, created_at desc, id desc);

-- A `concurrently` that failed leaves an index that has our name, is kept up to date, and guards nothing.
do $$
declare
  broken text := (
    select string_agg(indexrelid::regclass::text, ', ') from pg_index
    where not indisvalid and indexrelid in (to_regclass('public.chat_logs_turn_id_sender_key'),
                                            to_regclass('public.chat_logs_conversation_id_created_at_id_idx'))
  );
begin
  if broken is not null then
    raise exception 'index % was left invalid by an interrupted build', broken
      using hint = 'Drop it and apply the migrations again.';
  end if;
end
$$;

-- Not partial, so that `on conflict (turn_id, sender)` can use it. Older rows have no turn_id and never collide.
create unique index if not exists chat_logs_turn_id_sender_key on public.chat_logs (turn_id, sender);

create index if not exists chat_logs_conversation_id_created_at_id_idx
  on public.chat_logs (conversation_id, created_at desc, id desc);

-- A student's projects and memos are looked up with every message sent from their pages.
create index if not exists projects_user_id_idx on public.projects (user_id);
create index if not exists memos_user_id_idx on public.memos (user_id);
create index if not exists memos_project_id_idx on public.memos (project_id);

-- `not valid`: new rows are held to the key at once, rows of an older back end that point nowhere stay readable, and no
-- table is scanned under the lock. The last migration validates what can be. PostgREST embeds by either kind.
do $$
declare
  link record;
begin
  for link in
    select rule.*
    from (values
      ('memos', 'project_id', 'projects'),
      ('chat_logs', 'conversation_id', 'chat_conversations')
    ) as rule (table_name, column_name, refers_to)
    where not exists (
      select from pg_constraint k
      join pg_attribute col on col.attrelid = k.conrelid and k.conkey = array[col.attnum]
      where k.contype = 'f' and col.attname = rule.column_name
        and k.conrelid = format('public.%I', rule.table_name)::regclass
        and k.confrelid = format('public.%I', rule.refers_to)::regclass
    )
  loop
    execute format('alter table public.%1$I add constraint %1$s_%2$s_fkey'
                   ' foreign key (%2$I) references public.%3$I (id) not valid',
                   link.table_name, link.column_name, link.refers_to);
  end loop;
end
$$;

-- The time is the message's own, so that a save that was put off and delivered later tells the same; never backwards.
create or replace function public.touch_conversation() returns trigger
language plpgsql set search_path = ''
as $$
begin
  update public.chat_conversations
  set updated_at = new.created_at
  where id = new.conversation_id and updated_at < new.created_at;
  return null;
end
$$;

create or replace trigger touch_conversation
  after insert on public.chat_logs
  for each row execute function public.touch_conversation();
