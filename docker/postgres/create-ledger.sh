#!/usr/bin/env bash
# Runs once, when the PostgreSQL volume is empty: Airflow's database and the ledger's, with roles that cannot reach each
# other's.
#
#   airflow         owns Airflow's metadata
#   ledger_owner    owns the ledger's tables: used to migrate them and to grant, by nothing that runs a workflow
#   ledger_officer  what the privacy officer uses: it may register policies
#   ledger_writer   what a workflow uses: it may add entries under policies that are registered
#
# Tables do not exist yet: `sluice budget migrate --officer ledger_officer --worker ledger_writer`, as ledger_owner, makes
# them and grants the other two exactly what they need. Until then these two see nothing.
set -euo pipefail

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set airflow_password="$AIRFLOW_DB_PASSWORD" \
    --set owner_password="$LEDGER_OWNER_PASSWORD" \
    --set officer_password="$LEDGER_OFFICER_PASSWORD" \
    --set writer_password="$LEDGER_WRITER_PASSWORD" <<'SQL'
CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE DATABASE airflow OWNER airflow;
REVOKE ALL ON DATABASE airflow FROM PUBLIC;

CREATE ROLE ledger_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE ledger_officer LOGIN PASSWORD :'officer_password';
CREATE ROLE ledger_writer LOGIN PASSWORD :'writer_password';
CREATE DATABASE ledger OWNER ledger_owner;
REVOKE ALL ON DATABASE ledger FROM PUBLIC;
GRANT CONNECT ON DATABASE ledger TO ledger_officer, ledger_writer;

\connect ledger
REVOKE ALL ON SCHEMA public FROM PUBLIC;
SQL
