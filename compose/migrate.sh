#!/bin/sh
# Applies what Supabase has, the migrations in MIGRATIONS and the demo's rows to the database that the PG* variables name.
# Each file is one transaction; the first that fails ends it. Applied again it changes nothing.
set -eu
here=$(dirname "$0")
export PGOPTIONS='-c client_min_messages=warning'

apply() {
  echo "apply $(basename "$1")"
  psql --no-psqlrc --quiet --single-transaction --set=ON_ERROR_STOP=1 \
    --set=authenticator_password="$AUTHENTICATOR_PASSWORD" --file="$1"
}

apply "$here/supabase.sql"
for migration in "$MIGRATIONS"/*.sql; do
  apply "$migration"
done
apply "$here/rows.sql"
