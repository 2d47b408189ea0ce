-- Hold the older rows to the keys as well, where they obey them. A file of its own: validating reads the whole table, and
-- after the commit of the file before it does so without holding off anybody's reads or writes.

do $$
declare
  link record;
begin
  for link in
    select k.conname, k.conrelid::regclass as table_name
    from pg_constraint k
    where k.contype = 'f' and not k.convalidated
      and k.conname in ('memos_project_id_fkey', 'chat_logs_conversation_id_fkey')
      and k.conrelid in ('public.memos'::regclass, 'public.chat_logs'::regclass)
  loop
    begin
      execute format('alter table %s validate constraint %I', link.table_name, link.conname);
    exception when foreign_key_violation then
      raise warning '% has rows that point nowhere; they stay as they are, and % holds for new rows only',
        link.table_name, link.conname;
    end;
  end loop;
end
$$;

-- PostgREST reads the schema anew; without a listener nothing happens.
notify pgrst, 'reload schema';
