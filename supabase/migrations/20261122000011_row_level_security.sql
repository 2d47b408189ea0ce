-- Row-level security: who comes with a token of their own reads and writes their own rows, and nobody else's.
--
-- "Own" is a row whose user is auth.uid(), or whom user_id_mapping gives to auth.uid(); compared as text, so that counted
-- users (integer) and uuids do as well. `anon` gets nothing. `service_role`, which this server writes as, bypasses it all.
-- `users` and `user_id_mapping` are written by the service role alone: who could write the mapping could be anybody.
-- Policies say which rows; the next migration says which tables and verbs at all.
--
-- * Not forced on the tables' owner: the owner applies migrations and answers for foreign keys. A view reads as its owner
--   unless it has security_invoker; those that read past these policies are named in a warning, and stay as they are.
-- * Policies that a deployment made itself stay too, and are named: each allows what it says on top of ours.
-- * What a policy asks about the caller it asks once per statement (an initplan), not per row. Requests bring a filter of
--   their own (user_id, a key), which finds the rows by an index; the policy then looks at those only.
--
-- Locks: changes definitions only, no row, but all six tables must be free at the same moment. Requests take several of
-- them in orders of their own, so that to wait for one while holding another would end in deadlocks, theirs or ours. So it
-- takes all or none, and tries 400 times, for some seconds: nobody waits for it, and lock_timeout has no say. If there was
-- no such moment it stops, and has changed nothing; look for transactions that stay open, and apply it again.

do $$
begin
  if to_regprocedure('auth.uid()') is null or 3 > (
    select count(*) from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
  ) then
    raise exception 'auth.uid() and the roles anon, authenticated and service_role are needed'
      using hint = 'Supabase has them. Elsewhere make them as PostgREST is to use them, and apply this again.';
  end if;
  if not (select rolbypassrls or rolsuper from pg_roles where rolname = 'service_role') then
    raise exception 'service_role would be held to the policies'
      using hint = 'Supabase makes it so: alter role service_role bypassrls.';
  end if;
end
$$;

-- What policies call lives where PostgREST does not look.
create schema if not exists nursery_chat;
grant usage on schema nursery_chat to authenticated, service_role;

-- With its owner's rights, so that policies of user_id_mapping are not asked about user_id_mapping.
create or replace function nursery_chat.own_user_ids() returns text[]
language sql stable security definer parallel safe set search_path = ''
as $$
  select array_append(
    array(select m.user_id::text from public.user_id_mapping m
          where m.auth_id::text = (select auth.uid())::text and m.user_id is not null),
    (select auth.uid())::text
  )
$$;

-- Whether a row hangs on somebody else's. One that hangs on nothing, or on what is gone, as older rows may, hangs on
-- nobody's. Asked about rows that are written, one look at a primary key for each.
do $$
declare
  target record;
begin
  for target in
    select rule.*, format_type(named.atttypid, null) as key_type
    from (values
      ('chat_conversations', 'is_others_conversation', 'public.chat_logs', 'conversation_id'),
      ('projects', 'is_others_project', 'public.memos', 'project_id')
    ) as rule (table_name, function_name, named_by, column_name)
    join pg_attribute named on named.attrelid = rule.named_by::regclass and named.attname = rule.column_name
  loop
    execute format($function$
      create or replace function nursery_chat.%I(named %s) returns boolean
      language sql stable security definer set search_path = ''
      as 'select exists (select from public.%I o where o.id = named
                         and (o.user_id::text = any (nursery_chat.own_user_ids())) is not true)'
    $function$, target.function_name, target.key_type, target.table_name);
    execute format('revoke all on function nursery_chat.%I(%s) from public', target.function_name, target.key_type);
    execute format('grant execute on function nursery_chat.%I(%s) to authenticated, service_role',
                   target.function_name, target.key_type);
  end loop;
end
$$;
revoke all on function nursery_chat.own_user_ids() from public;
grant execute on function nursery_chat.own_user_ids() to authenticated, service_role;

-- One statement: at no moment is a table open, or closed to who may use it.
do $$
declare
  tries int := 0;
  rule record;
  own constant text := '%s::text = any ((select nursery_chat.own_user_ids())::text[])';
  mine constant text := format(own, 'user_id');
  not_on_others constant text := ' and not nursery_chat.%s(%s)';
  of_own_conversation constant text := mine || ' and exists (select from public.chat_conversations c'
    ' where c.id = chat_logs.conversation_id and c.user_id::text = chat_logs.user_id::text)';
begin
  loop
    begin
      lock table public.users, public.user_id_mapping, public.projects, public.memos, public.chat_conversations,
                 public.chat_logs in access exclusive mode nowait;
      exit;
    exception when lock_not_available then  -- what was locked is free again
      tries := tries + 1;
      if tries = 400 then
        raise exception 'there was no moment at which all six tables were free'
          using errcode = 'lock_not_available',
                hint = 'Nothing was changed. Look for transactions that stay open (pg_stat_activity), and apply this again.';
      end if;
      perform pg_sleep(0.01 * random());
    end;
  end loop;

  for rule in
    select format('public.%I', name)::regclass as table_name
    from unnest(array['users', 'user_id_mapping', 'projects', 'memos', 'chat_conversations', 'chat_logs']) as listed (name)
  loop
    if not (select relrowsecurity from pg_class where oid = rule.table_name) then
      execute format('alter table %s enable row level security', rule.table_name);
    end if;
  end loop;

  for rule in
    select 'own_' || verb as policy, rules.*
    from (values
      ('users', 'select', format(own, 'id'), null),
      ('user_id_mapping', 'select', 'auth_id::text = (select auth.uid())::text', null),
      ('projects', 'select', mine, null),
      ('projects', 'insert', null, mine),
      ('projects', 'update', mine, mine),
      ('projects', 'delete', mine, null),
      ('memos', 'select', mine, null),
      ('memos', 'insert', null, mine || format(not_on_others, 'is_others_project', 'project_id')),
      ('memos', 'update', mine, mine || format(not_on_others, 'is_others_project', 'project_id')),
      ('memos', 'delete', mine, null),
      ('chat_conversations', 'select', mine, null),
      ('chat_conversations', 'insert', null, mine),
      ('chat_conversations', 'update', mine, mine),
      ('chat_conversations', 'delete', mine, null),
      ('chat_logs', 'select', mine, null),
      ('chat_logs', 'insert', null, of_own_conversation),
      ('chat_logs', 'update', mine, mine || format(not_on_others, 'is_others_conversation', 'conversation_id')),
      ('chat_logs', 'delete', mine, null)
    ) as rules (table_name, verb, visible, written)
  loop
    execute format('drop policy if exists %I on public.%I', rule.policy, rule.table_name);
    execute format('create policy %I on public.%I for %s to authenticated', rule.policy, rule.table_name, rule.verb)
      || coalesce(' using (' || rule.visible || ')', '') || coalesce(' with check (' || rule.written || ')', '');
  end loop;
end
$$;

-- A mapping's auth_id is looked up as text, whatever its type.
do $$
begin
  if not exists (
    select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = 'public.user_id_mapping'::regclass and a.attname = 'auth_id' and i.indisvalid
      and i.indpred is null and a.atttypid in ('text'::regtype, 'varchar'::regtype)
  ) then
    create index if not exists user_id_mapping_auth_id_text_idx on public.user_id_mapping ((auth_id::text));
  end if;
end
$$;

-- What opens a table besides: only whoever made it knows why.
do $$
declare
  other record;
begin
  for other in
    select p.polname as name, p.polrelid::regclass as table_name
    from pg_policy p
    where p.polpermissive and p.polname not in ('own_select', 'own_insert', 'own_update', 'own_delete')
      and p.polrelid in ('public.users'::regclass, 'public.user_id_mapping'::regclass, 'public.projects'::regclass,
                         'public.memos'::regclass, 'public.chat_conversations'::regclass, 'public.chat_logs'::regclass)
  loop
    raise warning 'policy "%" on % is not ours and stays: what it allows is allowed', other.name, other.table_name;
  end loop;
  for other in
    select distinct v.oid::regclass as name, v.relkind = 'm' as is_copy
    from pg_class v
    join pg_rewrite w on w.ev_class = v.oid
    join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass
    where v.relkind in ('v', 'm')
      and not coalesce((select option_value::boolean from pg_options_to_table(v.reloptions)
                        where option_name = 'security_invoker'), false)
      and d.refobjid in ('public.users'::regclass, 'public.user_id_mapping'::regclass, 'public.projects'::regclass,
                         'public.memos'::regclass, 'public.chat_conversations'::regclass, 'public.chat_logs'::regclass)
  loop
    if other.is_copy then
      raise warning 'materialized view % holds rows of everybody, and row-level security does not hold it', other.name
        using hint = format('It cannot have the reader''s rights: revoke all on %s from public, anon, authenticated.',
                            other.name);
    else
      raise warning 'view % reads as its owner, past row-level security', other.name
        using hint = format('Give it the reader''s rights, alter view %1$s set (security_invoker = true), or take it from '
                            'them: revoke all on %1$s from public, anon, authenticated.', other.name);
    end if;
  end loop;
end
$$;

notify pgrst, 'reload schema';
