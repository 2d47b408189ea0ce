-- The oldest deployment: messages by user and page, before there were conversations.
create table users (id integer generated always as identity primary key);
create table chat_logs (id bigserial primary key, user_id integer references users (id), sender text, message text);
insert into users default values;
insert into chat_logs (user_id, sender, message) values (1, 'user', 'ねえ'), (1, 'ai', 'yes?');
