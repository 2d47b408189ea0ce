-- The six tables of the chat, column by column as supabase/migrations makes them on Postgres.
--
-- Types are Postgres's names; the dialect checks values by them. `integer primary key` is a bigint to it (SQLite counts
-- rows in no other). Times are UTC with six digits of microseconds, so that their order as texts is their order.

create table users (
  id text not null primary key,
  username text
);

create table user_id_mapping (
  auth_id text not null primary key,
  user_id text not null
);

create table projects (
  id integer primary key autoincrement,
  user_id text not null references users (id),
  theme text,
  question text,
  hypothesis text,
  updated_at timestamptz not null default (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now'))
);

create table memos (
  id integer primary key autoincrement,
  user_id text not null references users (id),
  project_id bigint references projects (id),
  title text,
  content text,
  updated_at timestamptz not null default (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now'))
);

create table chat_conversations (
  id uuid not null primary key default (
    lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-'
          || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))
  ),
  user_id text not null references users (id),
  title text,
  page_id text,
  is_active boolean not null default 1,
  created_at timestamptz not null default (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
  updated_at timestamptz not null default (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
  unique (user_id, page_id)
);

create table chat_logs (
  id integer primary key autoincrement,
  user_id text not null references users (id),
  page text,
  sender text not null,
  message text not null,
  conversation_id uuid references chat_conversations (id),
  context_data jsonb,
  created_at timestamptz not null default (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
  turn_id uuid,
  unique (turn_id, sender)
);

-- Foreign keys: SQLite reads the whole child table at a parent's delete where these are missing.
create index projects_user_id_idx on projects (user_id);
create index memos_user_id_idx on memos (user_id);
create index memos_project_id_idx on memos (project_id);
create index chat_logs_user_id_idx on chat_logs (user_id);

create index chat_logs_conversation_id_created_at_id_idx on chat_logs (conversation_id, created_at desc, id desc);

-- The time is the message's own, so that a save that was put off and delivered later tells the same; never backwards.
create trigger touch_conversation after insert on chat_logs
begin
  update chat_conversations
  set updated_at = new.created_at
  where id = new.conversation_id and updated_at < new.created_at;
end;
