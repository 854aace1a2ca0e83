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

-- Rows as text, before and after: PostgreSQL reads back exactly what it writes so, for every type. The rows of a
-- statement stand together, up to 256 in one entry; what an update made of a row stands in the same place of the
-- other list. They are not compressed: that would take longer than writing them.
CREATE TABLE IF NOT EXISTS countersign.image (
    call text NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    relation oid NOT NULL,
    rows integer NOT NULL,
    bytes bigint NOT NULL,
    old text[],
    new text[],
    PRIMARY KEY (call, seq)
);
-- An earlier version kept each row in an entry of its own. Their bytes were counted when their call was held to its limit.
DO $$
    BEGIN
        IF EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'countersign.image'::regclass
                      AND attname = 'old' AND atttypid = 'pg_catalog.text'::regtype) THEN
            ALTER TABLE countersign.image
                ADD COLUMN rows integer NOT NULL DEFAULT 1,
                ADD COLUMN bytes bigint NOT NULL DEFAULT 0,
                ALTER COLUMN old TYPE text[] USING CASE WHEN old IS NOT NULL THEN ARRAY[old] END,
                ALTER COLUMN new TYPE text[] USING CASE WHEN new IS NOT NULL THEN ARRAY[new] END;
            ALTER TABLE countersign.image ALTER COLUMN rows DROP DEFAULT, ALTER COLUMN bytes DROP DEFAULT;
        END IF;
    END
    $$;
ALTER TABLE countersign.image ALTER COLUMN old SET STORAGE EXTERNAL, ALTER COLUMN new SET STORAGE EXTERNAL;

-- The kept rows one by one, each with a number of its own.
CREATE OR REPLACE VIEW countersign.kept AS
    SELECT i.call, i.seq AS entry, i.seq * 256 + u.n - 1 AS seq, i.relation, u.old, u.new
      FROM countersign.image i CROSS JOIN LATERAL unnest(i.old, i.new) WITH ORDINALITY AS u (old, new, n);

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

-- In which form rows are kept. A server that knows another one writes nothing here before this script was run again.
CREATE OR REPLACE FUNCTION countersign.form() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2';

-- Keeps the rows that one statement changed. Acts for the administrator, so that the account can keep nothing by
-- itself; and only for a call that began in this very transaction, so that nothing is added to another. The old and
-- the new rows of an update are listed in the same order. What stands in partitions and children is not told here
-- by the table it is in: their rows are kept one by one.
CREATE OR REPLACE FUNCTION countersign.keep_rows() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET jit = off SET work_mem = '32MB'
    SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
    SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C'
    AS $$
    DECLARE
        begun text;
    BEGIN
        IF EXISTS (SELECT FROM pg_inherits WHERE TG_RELID IN (inhrelid, inhparent)) THEN
            RETURN NULL;
        END IF;
        SELECT c.id INTO begun FROM countersign.call c
         WHERE c.id = current_setting('countersign.call') AND c.xmin = pg_current_xact_id()::xid;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'call % did not begin in this transaction', current_setting('countersign.call');
        END IF;
        IF TG_OP = 'INSERT' THEN
            INSERT INTO countersign.image (call, relation, rows, bytes, new)
            SELECT begun, TG_RELID, count(*), sum(octet_length(k.text)), array_agg(k.text)
              FROM (SELECT (r.*)::text AS text, row_number() OVER () - 1 AS place FROM new_rows r) k GROUP BY k.place / 256;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO countersign.image (call, relation, rows, bytes, old)
            SELECT begun, TG_RELID, count(*), sum(octet_length(k.text)), array_agg(k.text)
              FROM (SELECT (r.*)::text AS text, row_number() OVER () - 1 AS place FROM old_rows r) k GROUP BY k.place / 256;
        ELSE
            -- A part that has no equal on the other side would be missing from what is counted, and the call refused.
            INSERT INTO countersign.image (call, relation, rows, bytes, old, new)
            SELECT begun, TG_RELID, was.rows, was.bytes + now.bytes, was.texts, now.texts
              FROM (SELECT k.place / 256 AS part, count(*) AS rows, sum(octet_length(k.text)) AS bytes,
                           array_agg(k.text ORDER BY k.place) AS texts
                      FROM (SELECT (r.*)::text AS text, row_number() OVER () - 1 AS place FROM old_rows r) k GROUP BY 1) was
              JOIN (SELECT k.place / 256 AS part, count(*) AS rows, sum(octet_length(k.text)) AS bytes,
                           array_agg(k.text ORDER BY k.place) AS texts
                      FROM (SELECT (r.*)::text AS text, row_number() OVER () - 1 AS place FROM new_rows r) k GROUP BY 1) now
                ON now.part = was.part AND now.rows = was.rows;
        END IF;
        RETURN NULL;
    END
    $$;

-- Keeps one changed row, where statements do not tell which table their rows stand in.
CREATE OR REPLACE FUNCTION countersign.keep() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
    SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C'
    AS $$
    BEGIN
        INSERT INTO countersign.image (call, relation, rows, bytes, old, new)
        SELECT c.id, TG_RELID, 1, coalesce(octet_length(k.old), 0) + coalesce(octet_length(k.new), 0),
               CASE WHEN TG_OP <> 'INSERT' THEN ARRAY[k.old] END, CASE WHEN TG_OP <> 'DELETE' THEN ARRAY[k.new] END
          FROM countersign.call c, (SELECT OLD::text AS old, NEW::text AS new) k
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
        WITH gone AS (DELETE FROM countersign.image i USING countersign.call c
                       WHERE c.id = i.call AND c.at < before RETURNING i.rows)
        SELECT coalesce(sum(gone.rows), 0) INTO forgotten FROM gone;
        DELETE FROM countersign.layout l USING countersign.call c WHERE c.id = l.call AND c.at < before;
        RETURN forgotten;
    END
    $$;

-- Keeps the rows of a table from now on, with those of its partitions and children, and of every table that
-- its foreign keys change. Only calls of Countersign are kept: for others the triggers' condition is false. What
-- has no rows of its own here is left out. Says what was done, a line for each.
CREATE OR REPLACE FUNCTION countersign.cover(meant regclass) RETURNS SETOF text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        found oid;
        kind "char";
        by_statement boolean;
        held oid;
        name text;
        event text;
        rows text;
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
            -- Named so as to come after the triggers of others. Of those that there are from before none may be left
            -- that keeps the same rows a second time.
            by_statement := kind = 'r' AND NOT EXISTS (SELECT FROM pg_inherits WHERE found IN (inhrelid, inhparent));
            FOR held, name IN
                SELECT t.tgrelid, t.tgname FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
                 WHERE t.tgrelid IN (SELECT found UNION SELECT relid FROM pg_partition_tree(found)) AND t.tgparentid = 0
                   AND f.pronamespace = 'countersign'::regnamespace
                   AND f.proname = CASE WHEN by_statement THEN 'keep' ELSE 'keep_rows' END
            LOOP
                EXECUTE format('DROP TRIGGER %I ON %s', name, held::regclass);
            END LOOP;
            IF by_statement THEN
                FOR event, rows IN
                    VALUES ('insert', 'NEW TABLE AS new_rows'), ('delete', 'OLD TABLE AS old_rows'),
                           ('update', 'OLD TABLE AS old_rows NEW TABLE AS new_rows')
                LOOP
                    EXECUTE format(
                        'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s REFERENCING %s FOR EACH STATEMENT '
                        'WHEN (coalesce(pg_catalog.current_setting(''countersign.call'', true), '''') <> '''') '
                        'EXECUTE FUNCTION countersign.keep_rows()', 'zz_countersign_keep_' || event, event, found::regclass, rows);
                END LOOP;
            ELSE
                EXECUTE format(
                    'CREATE OR REPLACE TRIGGER zz_countersign_keep AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW '
                    'WHEN (coalesce(pg_catalog.current_setting(''countersign.call'', true), '''') <> '''') '
                    'EXECUTE FUNCTION countersign.keep()', found::regclass);
            END IF;
            RETURN NEXT 'keeps rows of ' || found::regclass;
        END LOOP;
    END
    $$;

REVOKE ALL ON ALL TABLES IN SCHEMA countersign FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA countersign FROM PUBLIC;

-- The account may say that a call begins, look at what is kept, and nothing else.
GRANT USAGE ON SCHEMA countersign TO {account};
GRANT SELECT ON countersign.call, countersign.image, countersign.kept, countersign.layout, countersign.aside TO {account};
GRANT INSERT (id, tool, digest, state, images, undoes) ON countersign.call TO {account};
GRANT EXECUTE ON FUNCTION countersign.columns(oid), countersign.form(), countersign.identity(), countersign.seal(text, bigint), countersign.prune(bigint) TO {account};

