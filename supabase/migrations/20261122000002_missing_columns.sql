-- What tables of an older deployment lack: columns, defaults, values that must not be null. Types that exist stay.
--
-- Locks: a column without a default, or with a constant one, is added without touching a row. Filling nulls writes the
-- rows that have them, once; `set not null` then reads the whole table while nobody else may use it (well under a second
-- per million rows). Triggers of the deployment's own run on the rows that are filled.

alter table public.users
  add column if not exists username text;

alter table public.projects
  add column if not exists theme text,
  add column if not exists question text,
  add column if not exists hypothesis text,
  add column if not exists updated_at timestamptz default now();

alter table public.chat_conversations
  add column if not exists title text,
  add column if not exists page_id text,
  add column if not exists is_active boolean not null default true,
  add column if not exists created_at timestamptz default now(),
  add column if not exists updated_at timestamptz default now();

alter table public.chat_logs
  add column if not exists page text,
  add column if not exists conversation_id uuid,
  add column if not exists context_data jsonb,
  add column if not exists created_at timestamptz default now(),
  add column if not exists turn_id uuid;

-- A key column takes the type of what it refers to.
do $$
declare
  missing record;
begin
  for missing in
    select rule.*, format_type(target.atttypid, target.atttypmod) as key_type
    from (values
      ('public.projects', 'user_id', 'public.users'),
      ('public.memos', 'user_id', 'public.users'),
      ('public.memos', 'project_id', 'public.projects'),
      ('public.chat_conversations', 'user_id', 'public.users'),
      ('public.chat_logs', 'user_id', 'public.users')
    ) as rule (table_name, column_name, refers_to)
    join pg_attribute target on target.attrelid = rule.refers_to::regclass and target.attname = 'id'
  loop
    execute format('alter table %s add column if not exists %I %s',
                   missing.table_name, missing.column_name, missing.key_type);
  end loop;
end
$$;

-- A time that nobody recorded becomes the nearest one known, else the epoch: as a null it would sort as the newest message.
do $$
declare
  gap record;
begin
  for gap in
    select rule.*, col.attnotnull, col.atthasdef, col.atttypid = 'timestamp'::regtype as zoneless
    from (values
      ('public.chat_conversations', 'is_active', 'true', 'true'),
      ('public.chat_conversations', 'created_at', 'now()', $fill$coalesce(updated_at, 'epoch')$fill$),
      ('public.chat_conversations', 'updated_at', 'now()', 'created_at'),
      ('public.chat_logs', 'created_at', 'now()', $fill$coalesce((select c.created_at from public.chat_conversations c
                                                                  where c.id = chat_logs.conversation_id), 'epoch')$fill$)
    ) as rule (table_name, column_name, default_value, filling)
    join pg_attribute col on col.attrelid = rule.table_name::regclass and col.attname = rule.column_name
  loop
    if not gap.atthasdef then
      execute format('alter table %s alter column %I set default %s', gap.table_name, gap.column_name,
                     case when gap.zoneless then $utc$timezone('utc', now())$utc$ else gap.default_value end);
    end if;
    if not gap.attnotnull then
      execute format('update %s set %I = %s where %2$I is null', gap.table_name, gap.column_name, gap.filling);
      execute format('alter table %s alter column %I set not null', gap.table_name, gap.column_name);
    end if;
  end loop;
end
$$;
