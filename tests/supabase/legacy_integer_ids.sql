-- A deployment of an older back end that counts its users: no turn_id, no keys, no links, gaps in what it wrote.
create table users (id serial primary key, username varchar(80) unique, email text);
create table projects (
  id serial primary key, user_id integer not null references users (id), theme varchar(200) not null, question text,
  hypothesis text, created_at timestamptz default now(), updated_at timestamptz default now());
create table memos (
  id serial primary key, user_id integer not null, project_id integer, title text, content text, tags text[],
  created_at timestamptz default now());
create table chat_conversations (
  id uuid primary key default gen_random_uuid(), user_id integer not null, title text, page_id text, is_active boolean,
  metadata jsonb, created_at timestamptz default now(), updated_at timestamptz);
create table chat_logs (
  id serial primary key, user_id integer, page varchar(100), sender varchar(20) not null, message text not null,
  conversation_id uuid, context_data json, created_at timestamptz);
create index idx_chat_logs_created_at on chat_logs (created_at);

insert into users (username) values ('aoi'), ('ren');
insert into projects (user_id, theme, question, hypothesis) values (1, '川のプラスチック', 'どこから来るか', '雨の後に増える');
-- The second memo's project was deleted long ago.
insert into memos (user_id, project_id, title) values (1, 1, '観察'), (1, 99, '迷子');

insert into chat_conversations (id, user_id, title, page_id, is_active, created_at, updated_at) values
  -- One page, three conversations: the second has the newest message, the third was updated last and is empty.
  ('00000000-0000-4000-8000-000000000001', 1, 'first',  'general', true, '2025-04-01 09:00Z', '2025-04-01 09:00Z'),
  ('00000000-0000-4000-8000-000000000002', 1, 'newest', 'general', null, '2025-04-01 09:00Z', '2025-04-01 09:00Z'),
  ('00000000-0000-4000-8000-000000000003', 1, 'empty',  'general', true, '2025-04-01 09:01Z', '2025-06-01 09:00Z'),
  -- The same page of another user, another page of the same user.
  ('00000000-0000-4000-8000-000000000004', 2, 'other user', 'general',   true, '2025-04-02 09:00Z', '2025-04-02 09:00Z'),
  ('00000000-0000-4000-8000-000000000005', 1, 'other page', 'project-1', true, '2025-04-02 09:00Z', '2025-04-02 09:00Z'),
  -- Conversations without a page, which never collide.
  ('00000000-0000-4000-8000-000000000006', 1, 'no page', null, true, '2025-04-03 09:00Z', '2025-04-03 09:00Z'),
  ('00000000-0000-4000-8000-000000000007', 1, 'no page', null, true, '2025-04-03 09:00Z', '2025-04-03 09:00Z'),
  -- One that the user deleted, and the one that took its place.
  ('00000000-0000-4000-8000-000000000008', 2, 'deleted', 'memo', false, '2025-04-04 09:00Z', '2025-04-09 09:00Z'),
  ('00000000-0000-4000-8000-000000000009', 2, 'current', 'memo', true,  '2025-04-05 09:00Z', '2025-04-05 09:00Z'),
  -- Times that nobody wrote.
  ('00000000-0000-4000-8000-00000000000a', 2, 'timeless', 'project-2', null, null, null);

insert into chat_logs (user_id, page, sender, message, conversation_id, context_data, created_at) values
  (1, 'general', 'user', '最初の質問', '00000000-0000-4000-8000-000000000001', null, '2025-04-01 09:00Z'),
  (1, 'general', 'ai', 'answer', '00000000-0000-4000-8000-000000000001', '{"model": "old", "n":  1}', '2025-04-01 09:02Z'),
  (1, 'general', 'user', 'and then?', '00000000-0000-4000-8000-000000000002', null, '2025-05-01 09:00Z'),
  (1, 'general', 'assistant', 'this', '00000000-0000-4000-8000-000000000002', '{}', '2025-05-01 09:01Z'),
  (2, 'general', 'user', 'mine', '00000000-0000-4000-8000-000000000004', null, '2025-04-02 09:00Z'),
  (1, 'project-1', 'user', 'about it', '00000000-0000-4000-8000-000000000005', null, '2025-04-02 09:00Z'),
  (2, 'memo', 'user', 'forget this', '00000000-0000-4000-8000-000000000008', null, '2025-04-09 09:00Z'),
  (2, 'memo', 'user', 'keep this', '00000000-0000-4000-8000-000000000009', null, '2025-04-05 09:00Z'),
  -- Orphans: no conversation, one that is gone, no time, the same text twice.
  (1, 'general', 'user', 'before conversations', null, null, '2024-01-01 09:00Z'),
  (1, 'general', 'user', 'before conversations', null, null, '2024-01-01 09:00Z'),
  (1, 'general', 'ai', 'gone', 'ffffffff-ffff-4fff-8fff-ffffffffffff', null, '2024-02-01 09:00Z'),
  (2, 'project-2', 'user', 'no time', '00000000-0000-4000-8000-00000000000a', null, null);
