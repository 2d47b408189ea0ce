-- A deployment of an older back end that knows its users by uuid: times without a zone, a trigger that stamps every update,
-- links that cascade, a table and a view of its own on top.
create table users (id uuid primary key, username text);
create table user_id_mapping (auth_id uuid primary key, user_id uuid);
create table projects (
  id bigserial primary key, user_id uuid references users (id) on delete cascade, theme text, question text, hypothesis text,
  updated_at timestamp default timezone('utc', now()));
create table chat_conversations (
  id uuid primary key default gen_random_uuid(), user_id uuid not null references users (id) on delete cascade,
  title varchar(255), page_id varchar(255), is_active boolean not null default true,
  created_at timestamp default timezone('utc', now()), updated_at timestamp default timezone('utc', now()));
create table chat_logs (
  id uuid primary key default gen_random_uuid(), user_id uuid not null, page text, sender text, message text,
  conversation_id uuid references chat_conversations (id) on delete cascade, context_data jsonb,
  created_at timestamp);
create table agent_states (conversation_id uuid references chat_conversations (id) on delete cascade, state text);
create view recent_logs as select id, message, created_at from chat_logs;

insert into users values
  ('aaaaaaaa-0000-4000-8000-000000000001', 'aoi'), ('aaaaaaaa-0000-4000-8000-000000000002', 'ren');
insert into user_id_mapping values ('bbbbbbbb-0000-4000-8000-000000000001', 'aaaaaaaa-0000-4000-8000-000000000001');
insert into projects (user_id, theme) values ('aaaaaaaa-0000-4000-8000-000000000001', 'みつばち');

insert into chat_conversations (id, user_id, title, page_id, is_active, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000001', 'aaaaaaaa-0000-4000-8000-000000000001', 'older', 'general', true, '2025-04-01', '2025-07-01'),
  ('00000000-0000-4000-8000-000000000002', 'aaaaaaaa-0000-4000-8000-000000000001', 'newest', 'general', true, '2025-04-01', '2025-04-01'),
  ('00000000-0000-4000-8000-000000000003', 'aaaaaaaa-0000-4000-8000-000000000002', 'empty', 'general', true, '2025-04-01', '2025-04-01'),
  ('00000000-0000-4000-8000-000000000004', 'aaaaaaaa-0000-4000-8000-000000000002', 'updated', 'general', true, '2025-04-01', '2025-04-02'),
  ('00000000-0000-4000-8000-000000000005', 'aaaaaaaa-0000-4000-8000-000000000002', 'deleted', 'memo', false, '2025-04-01', '2025-04-02'),
  ('00000000-0000-4000-8000-000000000006', 'aaaaaaaa-0000-4000-8000-000000000002', 'no page', null, true, null, null),
  ('00000000-0000-4000-8000-000000000007', 'aaaaaaaa-0000-4000-8000-000000000002', 'no page', null, true, '2025-04-01', '2025-04-01');
insert into agent_states values ('00000000-0000-4000-8000-000000000001', 'asking');

insert into chat_logs (user_id, page, sender, message, conversation_id, context_data, created_at) values
  ('aaaaaaaa-0000-4000-8000-000000000001', 'general', 'user', 'やあ', '00000000-0000-4000-8000-000000000001', null, '2025-04-01 10:00'),
  ('aaaaaaaa-0000-4000-8000-000000000001', 'general', 'ai', 'hello', '00000000-0000-4000-8000-000000000001', '{"a": [1, null]}', '2025-04-01 10:01'),
  ('aaaaaaaa-0000-4000-8000-000000000001', 'general', 'user', 'next', '00000000-0000-4000-8000-000000000002', null, '2025-04-03 10:00'),
  ('aaaaaaaa-0000-4000-8000-000000000001', 'general', 'ai', null, '00000000-0000-4000-8000-000000000002', '{}', '2025-04-03 10:01'),
  ('aaaaaaaa-0000-4000-8000-000000000002', 'memo', 'user', 'forget', '00000000-0000-4000-8000-000000000005', null, '2025-04-01 10:00'),
  ('aaaaaaaa-0000-4000-8000-000000000002', 'general', 'user', 'no conversation', null, null, null);

create function stamp_update() returns trigger language plpgsql as
$$ begin new.updated_at = timezone('utc', now()); return new; end $$;
create trigger stamp_update before update on chat_conversations for each row execute function stamp_update();
