-- One conversation per user and page: merge what an older back end doubled, then make it a key that
-- `on conflict (user_id, page_id)` can use. The key is not partial (a partial one would need its condition repeated in
-- every insert, which PostgREST cannot do); rows without a page_id never collide.
--
-- * A conversation that was deleted (is_active = false) gives its page_id up: that is what deleting means from now on,
--   so that the next message on the page starts a new one. Its messages stay with it and are not merged into another,
--   or what a user deleted would come back. The page itself is still told by chat_logs.page.
-- * Of several active ones, that whose newest message is newest stays: its id is the one that open front ends hold and
--   its title the one that people see. Its row is not changed. Without messages the last update decides, then the id.
-- * The others' messages move to it. The emptied rows are hidden like deleted ones, not removed: tables that we do not know
--   may refer to them, and would cascade.
--
-- One statement, so that nobody can double a conversation between the merge and the key. It holds off writers (not readers)
-- of both tables: under a second per 100,000 conversations, plus, if there are doubles, two passes over chat_logs and some
-- 30 us per message that moves (400,000 of 1,000,000 moved: 13 s). The tables are locked in the order in which an insert
-- of a message takes them. The index cannot be built `concurrently` beforehand while there are doubles.

do $$
begin
  lock table public.chat_logs, public.chat_conversations in share row exclusive mode;

  update public.chat_conversations set page_id = null where not is_active and page_id is not null;

  with doubled as (
    select *
    from (select *, count(*) over (partition by user_id, page_id) as twins from public.chat_conversations) c
    where twins > 1 and user_id is not null and page_id is not null
  ),
  newest as (
    select conversation_id, max(created_at) as created_at
    from public.chat_logs
    where conversation_id in (select id from doubled)
    group by conversation_id
  ),
  ranked as (
    select d.id,
           first_value(d.id) over (
             partition by d.user_id, d.page_id
             order by n.created_at desc nulls last, d.updated_at desc, d.created_at desc, d.id
           ) as keeper
    from doubled d left join newest n on n.conversation_id = d.id
  ),
  moved as (
    update public.chat_logs l set conversation_id = r.keeper
    from ranked r
    where l.conversation_id = r.id and r.id <> r.keeper
  )
  update public.chat_conversations c set is_active = false, page_id = null
  from ranked r
  where c.id = r.id and r.id <> r.keeper;

  if exists (select from pg_index where not indisvalid
             and indexrelid = to_regclass('public.chat_conversations_user_id_page_id_key')) then
    raise exception 'index chat_conversations_user_id_page_id_key was left invalid by an interrupted build'
      using hint = 'Drop it and apply the migrations again.';
  end if;
  create unique index if not exists chat_conversations_user_id_page_id_key
    on public.chat_conversations (user_id, page_id);
end
$$;
