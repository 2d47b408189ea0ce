-- Who may do what with the tables. Supabase gives nothing on new tables by itself: not in projects from May 2026 on, since
-- October 2026 in none. Rights come after the policies, which alone would let nobody in, and never without them.
--
-- * `service_role`, which this server comes as, may read and write all six. Nothing is taken from it.
-- * `authenticated` may have what the policies speak of: reading all six, writing four. Whatever else it has goes (truncate,
--   references, trigger, maintain: policies do not hold those). What it lacks it gets only where none of the three roles
--   may read or write: nobody has said yet who may use such a table. Anywhere else it was taken on purpose; that stays, and
--   is named in a warning. Rights to single columns stay.
-- * `anon` and everybody (`public`) get nothing, and lose what they have.
-- * An older table may count its rows by a sequence (`serial`): who may insert there may use that. Identities need none.
--
-- Locks: none on the tables.

do $$
declare
  given record;
  verb text;
  lacking text[];
  counter regclass;
begin
  for given in
    select rule.name, format('public.%I', rule.name)::regclass as table_name, rule.verbs, closed.relrowsecurity,
           not exists (select from unnest(array['service_role', 'authenticated', 'anon']) as asked (of)
                       where has_any_column_privilege(asked.of, closed.oid, 'select, insert, update')
                          or has_table_privilege(asked.of, closed.oid, 'delete')) as is_new,
           (select string_agg(known.privilege_type, ', ') from aclexplode(acldefault('r', closed.relowner)) known
            where lower(known.privilege_type) <> all (rule.verbs)) as beyond
    from (values
      ('users', array['select']),
      ('user_id_mapping', array['select']),
      ('projects', array['select', 'insert', 'update', 'delete']),
      ('memos', array['select', 'insert', 'update', 'delete']),
      ('chat_conversations', array['select', 'insert', 'update', 'delete']),
      ('chat_logs', array['select', 'insert', 'update', 'delete'])
    ) as rule (name, verbs)
    join pg_class closed on closed.oid = format('public.%I', rule.name)::regclass
  loop
    if not given.relrowsecurity then
      raise exception 'row-level security is off on %', given.table_name
        using hint = 'The migration before this one turns it on: apply that, then this.';
    end if;
    execute format('revoke all on %s from public, anon', given.table_name);
    execute format('revoke %s on %s from authenticated', given.beyond, given.table_name);
    execute format('grant select, insert, update, delete on %s to service_role', given.table_name);
    if given.is_new then
      execute format('grant %s on %s to authenticated', array_to_string(given.verbs, ', '), given.table_name);
      if not has_schema_privilege('authenticated', 'public', 'usage') then
        grant usage on schema public to authenticated;
      end if;
    end if;

    lacking := '{}';
    foreach verb in array given.verbs loop
      if not (has_table_privilege('authenticated', given.table_name, verb)
              or verb <> 'delete' and has_any_column_privilege('authenticated', given.table_name, verb)) then
        lacking := lacking || verb;
      end if;
    end loop;
    if lacking <> '{}' then
      raise warning 'authenticated has no right to % on %: left so', array_to_string(lacking, ', '), given.table_name
        using hint = format('If front ends are to do so with their users'' tokens: grant %s on %s to authenticated.',
                            array_to_string(lacking, ', '), given.table_name);
    end if;

    for counter in
      select distinct uses.refobjid
      from pg_attrdef filling
      join pg_depend uses on uses.classid = 'pg_attrdef'::regclass and uses.objid = filling.oid
      join pg_class used on used.oid = uses.refobjid and uses.refclassid = 'pg_class'::regclass and used.relkind = 'S'
      where filling.adrelid = given.table_name
    loop
      execute format('grant usage on sequence %s to service_role', counter);
      if has_any_column_privilege('authenticated', given.table_name, 'insert') then
        execute format('grant usage on sequence %s to authenticated', counter);
      end if;
    end loop;
  end loop;

  if not has_schema_privilege('service_role', 'public', 'usage') then
    grant usage on schema public to service_role;
  end if;
end
$$;

-- PostgREST shows what may be used.
notify pgrst, 'reload schema';
