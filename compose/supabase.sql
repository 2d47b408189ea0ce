-- What Supabase puts beside a project's own tables, as far as PostgREST and our migrations ask for it: the roles, and who
-- the caller is. https://docs.postgrest.org/en/v12/references/auth.html
do $$
declare
  missing text;
begin
  for missing in
    select name from unnest(array['anon', 'authenticated', 'service_role', 'authenticator']) as named (name)
    where not exists (select from pg_roles where rolname = name)
  loop
    execute format('create role %I noinherit', missing);
  end loop;
end
$$;

alter role service_role bypassrls;
-- As this one PostgREST comes in; it then becomes whom the token names.
alter role authenticator login password :'authenticator_password';
grant anon, authenticated, service_role to authenticator;

create schema if not exists auth;
grant usage on schema auth, public to anon, authenticated, service_role;

create or replace function auth.jwt() returns jsonb language sql stable as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;

create or replace function auth.uid() returns uuid language sql stable as $$
  select (auth.jwt() ->> 'sub')::uuid
$$;

create or replace function auth.role() returns text language sql stable as $$
  select auth.jwt() ->> 'role'
$$;
