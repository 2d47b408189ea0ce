-- What the demo user finds at the first start: two research projects, and a memo that belongs to the first.

insert into users (id, username) values ('demo', 'Demo');

insert into projects (id, user_id, theme, question, hypothesis) values
  (1, 'demo', '川のプラスチックごみ', '学校の近くの川では、どこにプラスチックごみが集まるのか', '流れがゆるむ曲がり角の内側にいちばん多く集まる'),
  (2, 'demo', 'Honeybees in the city', 'Do bees near our school visit more kinds of flowers than bees in the fields?', 'Yes, because gardens bloom at different times');

insert into memos (id, user_id, project_id, title, content) values
  (1, 'demo', 1, '最初の観察', '橋の下流で20分間に12個のペットボトルを見つけた。上流では3個だった。');
