#!/usr/bin/env bash
# Runs once, when the PostgreSQL volume is empty: Airflow's database and the ledger's, with three roles that cannot
# reach each other's.
#
#   airflow        owns Airflow's metadata
#   ledger_owner   owns the ledger's tables: used to migrate them, by nothing that runs a workflow
#   ledger_writer  what a workflow uses: it may read entries and add them, never change or remove one
set -euo pipefail

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set airflow_password="$AIRFLOW_DB_PASSWORD" \
    --set owner_password="$LEDGER_OWNER_PASSWORD" \
    --set writer_password="$LEDGER_WRITER_PASSWORD" <<'SQL'
CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE DATABASE airflow OWNER airflow;
REVOKE ALL ON DATABASE airflow FROM PUBLIC;

CREATE ROLE ledger_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE ledger_writer LOGIN PASSWORD :'writer_password';
CREATE DATABASE ledger OWNER ledger_owner;
REVOKE ALL ON DATABASE ledger FROM PUBLIC;
GRANT CONNECT ON DATABASE ledger TO ledger_writer;

\connect ledger
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO ledger_writer;
-- Tables do not exist yet: whatever the owner creates later is granted as it is created.
ALTER DEFAULT PRIVILEGES FOR ROLE ledger_owner IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO ledger_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE ledger_owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO ledger_writer;
SQL
