-- A pupil, whom the service `token` speaks for, with a project: so that the first question has context.
insert into public.users (id, username) values ('5eed0000-0000-4000-8000-000000000001', 'demo')
on conflict do nothing;

insert into public.projects (user_id, theme, question, hypothesis)
select id, 'Plants and light', 'Does blue light make cress grow faster?', 'Cress under blue light is taller after a week.'
from public.users
where id = '5eed0000-0000-4000-8000-000000000001'
  and not exists (select from public.projects where user_id = users.id);
