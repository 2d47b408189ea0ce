-- The tables that the captured requests of the official clients speak of, with a few rows.

create table users (id bigint not null primary key, name text default 'unnamed', unique (id, name));

create table chat_conversations (
  id text not null primary key,
  user_id bigint references users (id),
  title text,
  updated_at timestamptz
);

create table chat_logs (
  id integer primary key autoincrement,
  user_id bigint references users (id),
  page_id text,
  sender text,
  message text,
  conversation_id text references chat_conversations (id),
  created_at timestamptz not null default (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
  a bigint,
  b bigint
);

insert into users (id, name) values (1, 'one');

insert into chat_conversations (id, user_id, title, updated_at) values
  ('c0ffee00-0000-4000-8000-000000000001', 1, 'older', '2026-01-01T00:00:00.000000+00:00'),
  ('c', 1, 'newer', '2026-02-01T00:00:00.000000+00:00');

insert into chat_logs (id, user_id, page_id, sender, message, conversation_id, created_at, a, b) values
  (1, 1, null, 'user', 'first', 'c0ffee00-0000-4000-8000-000000000001', '2026-01-02T00:00:00.000000+00:00', 1, 0),
  (2, 1, null, 'x', 'second', 'c0ffee00-0000-4000-8000-000000000001', '2026-01-03T00:00:00.000000+00:00', 0, 2),
  (3, 1, 'p', 'user', 'third', 'c0ffee00-0000-4000-8000-000000000001', '2025-01-04T00:00:00.000000+00:00', 1, 2);

-- What no captured request needs and the refusals are tried on.

create table checked (id bigint not null primary key, size bigint, constraint checked_size_check check (size >= 0));

create table letters (
  id bigint not null primary key,
  from_id bigint references users (id),
  to_id bigint references users (id)
);

insert into letters (id, from_id, to_id) values (1, null, 1);
