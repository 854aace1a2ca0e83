-- What Countersign keeps in this database: which calls took effect, and the rows that they changed, as they
-- were before and after. Run it as the administrator who owns the tables (or as a superuser); run it again
-- after new tables or foreign keys came. Nothing here gives the account {account} a right on your tables.
BEGIN;

CREATE SCHEMA IF NOT EXISTS countersign;
REVOKE ALL ON SCHEMA countersign FROM PUBLIC;

-- How long rows are kept at least; only who runs this script can shorten it.
CREATE TABLE IF NOT EXISTS countersign.setting (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    retention_ms bigint NOT NULL
);
-- Which journal this is. A copy of the database has the same name; where it stands tells copies apart. To give a
-- copy that goes its own way a name of its own: UPDATE countersign.setting SET journal = gen_random_uuid();
ALTER TABLE countersign.setting ADD COLUMN IF NOT EXISTS journal uuid NOT NULL DEFAULT gen_random_uuid();
INSERT INTO countersign.setting (retention_ms) VALUES ({retention_ms})
    ON CONFLICT (one) DO UPDATE SET retention_ms = excluded.retention_ms;

-- One row for each write: written first in the transaction of the call, and committed with it. A call whose
-- process is gone is fenced off by taking its id.
CREATE TABLE IF NOT EXISTS countersign.call (
    id text PRIMARY KEY,
    tool text NOT NULL,
    digest text NOT NULL,
    state text NOT NULL DEFAULT 'committed' CHECK (state IN ('committed', 'fenced')),
    images boolean NOT NULL DEFAULT false,
    undoes text,
    rows bigint,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS call_undoes ON countersign.call (undoes) WHERE undoes IS NOT NULL;
CREATE INDEX IF NOT EXISTS call_at ON countersign.call (at);

-- Rows as text, before and after: PostgreSQL reads back exactly what it writes so, for every type.
CREATE TABLE IF NOT EXISTS countersign.image (
    call text NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    relation oid NOT NULL,
    old text,
    new text,
    PRIMARY KEY (call, seq)
);

-- The columns that those texts have.
CREATE TABLE IF NOT EXISTS countersign.layout (
    call text NOT NULL,
    relation oid NOT NULL,
    schema text NOT NULL,
    name text NOT NULL,
    columns text[] NOT NULL,
    PRIMARY KEY (call, relation)
);

-- Tables that triggers may write to on the way and that undo leaves alone, such as an audit trail:
--   INSERT INTO countersign.aside VALUES ('public.audit_trail');
CREATE TABLE IF NOT EXISTS countersign.aside (relation regclass PRIMARY KEY);

CREATE OR REPLACE FUNCTION countersign.columns(relation oid) RETURNS text[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT coalesce(array_agg(quote_ident(attname) || ' ' || format_type(atttypid, atttypmod)
                                  || CASE WHEN attgenerated <> '' THEN ' generated' ELSE '' END ORDER BY attnum), '{}')
          FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
    $$;

-- The journal's name, and where it stands: the cluster, the database in it, and the timeline, which is another
-- after a replica took over or a backup was restored to a point in time. What a server does not tell is `-`.
CREATE OR REPLACE FUNCTION countersign.identity() RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        cluster text := '-';
        timeline text := '-';
    BEGIN
        BEGIN
            SELECT system_identifier INTO cluster FROM pg_control_system();
        EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        END;
        BEGIN
            timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
        EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported
                    OR object_not_in_prerequisite_state THEN
        END;
        RETURN (SELECT s.journal || '@' || cluster || '.' || d.oid || '.' || timeline
                  FROM countersign.setting s, pg_database d WHERE d.datname = current_database());
    END
    $$;

-- Keeps one changed row. Acts for the administrator, so that the account can keep nothing by itself; and only
-- for a call that began in this very transaction, so that nothing is added to another.
CREATE OR REPLACE FUNCTION countersign.keep() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
    SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C'
    AS $$
    BEGIN
        INSERT INTO countersign.image (call, relation, old, new)
        SELECT c.id, TG_RELID, OLD::text, NEW::text
          FROM countersign.call c
         WHERE c.id = current_setting('countersign.call') AND c.xmin = pg_current_xact_id()::xid;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'call % did not begin in this transaction', current_setting('countersign.call');
        END IF;
        RETURN NULL;
    END
    $$;

-- Ends a call of this transaction: how many rows it touched, and what the tables look like.
CREATE OR REPLACE FUNCTION countersign.seal(sealed text, touched bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        odd oid;
    BEGIN
        UPDATE countersign.call SET rows = touched
         WHERE id = sealed AND rows IS NULL AND xmin = pg_current_xact_id()::xid;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'call % did not begin in this transaction', sealed;
        END IF;
        INSERT INTO countersign.layout (call, relation, schema, name, columns)
        SELECT sealed, k.relation, n.nspname, c.relname, countersign.columns(k.relation)
          FROM (SELECT DISTINCT relation FROM countersign.image WHERE call = sealed) k
          JOIN pg_class c ON c.oid = coalesce(pg_partition_root(k.relation), k.relation)
          JOIN pg_namespace n ON n.oid = c.relnamespace;
        SELECT l.relation INTO odd FROM countersign.layout l
         WHERE l.call = sealed
           AND l.columns <> countersign.columns(coalesce(pg_partition_root(l.relation), l.relation)) LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'partition % has its columns in another order than its parent, so its rows cannot be kept',
                odd::regclass;
        END IF;
    END
    $$;

-- Forgets rows that were kept long enough. What became of a call is never forgotten: an id that came back
-- unknown would be taken for a call that never happened.
CREATE OR REPLACE FUNCTION countersign.prune(retention bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        before timestamptz;
        forgotten bigint;
    BEGIN
        SELECT now() - greatest(retention, s.retention_ms) * interval '1 millisecond' INTO STRICT before
          FROM countersign.setting s;
        DELETE FROM countersign.image i USING countersign.call c WHERE c.id = i.call AND c.at < before;
        GET DIAGNOSTICS forgotten = ROW_COUNT;
        DELETE FROM countersign.layout l USING countersign.call c WHERE c.id = l.call AND c.at < before;
        RETURN forgotten;
    END
    $$;

-- Keeps the rows of a table from now on, with those of its partitions and children, and of every table that
-- its foreign keys change. Only calls of Countersign are kept: for others the trigger's condition is false. What
-- has no rows of its own here is left out. Says what was done, a line for each.
CREATE OR REPLACE FUNCTION countersign.cover(meant regclass) RETURNS SETOF text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        found oid;
        kind "char";
    BEGIN
        FOR found, kind IN
            WITH RECURSIVE reached (relation) AS (
                SELECT coalesce(pg_partition_root(meant), meant)::oid
                UNION
                SELECT coalesce(pg_partition_root(step.relation), step.relation)::oid
                  FROM reached r CROSS JOIN LATERAL (
                        SELECT k.conrelid FROM pg_constraint k
                         WHERE k.contype = 'f' AND k.confrelid = r.relation
                           AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
                        UNION ALL
                        SELECT i.inhrelid FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
                         WHERE i.inhparent = r.relation AND p.relkind = 'r') step (relation)
            )
            SELECT reached.relation, c.relkind FROM reached JOIN pg_class c ON c.oid = reached.relation
             WHERE NOT EXISTS (SELECT FROM countersign.aside a WHERE a.relation = reached.relation)
             ORDER BY reached.relation::regclass::text
        LOOP
            IF kind NOT IN ('r', 'p') THEN
                RETURN NEXT 'leaves out ' || found::regclass || CASE kind
                    WHEN 'v' THEN ', a view: the tables behind it are named by themselves'
                    WHEN 'm' THEN ', a materialized view: it is written by refreshing it alone'
                    WHEN 'f' THEN ', a foreign table: its rows are on another server'
                    WHEN 'S' THEN ', a sequence: it has no rows to put back'
                    ELSE ', which is no table' END;
                CONTINUE;
            END IF;
            -- Named so as to come after the triggers of others.
            EXECUTE format(
                'CREATE OR REPLACE TRIGGER zz_countersign_keep AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW '
                'WHEN (coalesce(pg_catalog.current_setting(''countersign.call'', true), '''') <> '''') '
                'EXECUTE FUNCTION countersign.keep()', found::regclass);
            RETURN NEXT 'keeps rows of ' || found::regclass;
        END LOOP;
    END
    $$;

REVOKE ALL ON ALL TABLES IN SCHEMA countersign FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA countersign FROM PUBLIC;

-- The account may say that a call begins, look at what is kept, and nothing else.
GRANT USAGE ON SCHEMA countersign TO {account};
GRANT SELECT ON countersign.call, countersign.image, countersign.layout, countersign.aside TO {account};
GRANT INSERT (id, tool, digest, state, images, undoes) ON countersign.call TO {account};
GRANT EXECUTE ON FUNCTION countersign.columns(oid), countersign.identity(), countersign.seal(text, bigint), countersign.prune(bigint) TO {account};

