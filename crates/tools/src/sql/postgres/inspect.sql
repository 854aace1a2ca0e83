-- What a PostgreSQL database holds that is not PostgreSQL's own, one family a statement, each row one JSON object in the
-- form of `countersign_sql::Catalog`. Objects that `initdb` made have numbers below 16384. The search path names only
-- `pg_catalog` while these run, so that every other name is shown with its schema.

-- relations
SELECT jsonb_build_object(
    'schema', n.nspname, 'name', c.relname,
    'kind', CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized_view' WHEN 'f' THEN 'foreign_table' ELSE 'table' END,
    'columns', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
            'expression', coalesce(pg_get_expr(d.adbin, d.adrelid), CASE WHEN a.attgenerated = '' AND NOT a.attidentity <> '' THEN (
                SELECT t.typdefault FROM pg_type t WHERE t.oid = a.atttypid AND t.typtype = 'd') END),
            'generated', a.attgenerated <> '', 'identity', a.attidentity <> '') ORDER BY a.attnum), '[]')
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'primary_key', (
        SELECT coalesce(jsonb_agg(a.attname ORDER BY x.at), '[]')
        FROM pg_constraint k, unnest(k.conkey) WITH ORDINALITY x (att, at)
        JOIN pg_attribute a ON a.attnum = x.att
        WHERE k.conrelid = c.oid AND k.contype = 'p' AND a.attrelid = c.oid),
    'definition', CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
    'security_invoker', coalesce(c.reloptions && '{security_invoker=true,security_invoker=on,security_invoker=1}'::text[], false),
    'foreign_keys', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'columns', ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY x (att, at)
                             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.att ORDER BY x.at),
            'schema', pn.nspname, 'table', p.relname,
            'references', ARRAY(SELECT a.attname FROM unnest(k.confkey) WITH ORDINALITY x (att, at)
                                JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = x.att ORDER BY x.at),
            'on_delete', CASE k.confdeltype WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set_null' WHEN 'd' THEN 'set_default' ELSE 'refuse' END,
            'on_update', CASE k.confupdtype WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set_null' WHEN 'd' THEN 'set_default' ELSE 'refuse' END
        )), '[]')
        FROM pg_constraint k JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
        WHERE k.conrelid = c.oid AND k.contype = 'f'),
    'triggers', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', t.tgname,
            'events', array_remove(ARRAY[
                CASE WHEN t.tgtype & 4 <> 0 THEN 'insert' END, CASE WHEN t.tgtype & 8 <> 0 THEN 'delete' END,
                CASE WHEN t.tgtype & 16 <> 0 THEN 'update' END, CASE WHEN t.tgtype & 32 <> 0 THEN 'truncate' END], NULL),
            'instead', t.tgtype & 64 <> 0,
            'function', jsonb_build_object('schema', fn.nspname, 'name', f.proname))), '[]')
        FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_namespace fn ON fn.oid = f.pronamespace
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'),
    'rules', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', r.rulename,
            'events', ARRAY[CASE r.ev_type WHEN '1' THEN 'select' WHEN '2' THEN 'update' WHEN '3' THEN 'insert' ELSE 'delete' END],
            'definition', pg_get_ruledef(r.oid))), '[]')
        FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN' AND r.ev_enabled <> 'D'),
    'row_security', c.relrowsecurity,
    'policies', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', p.polname,
            'events', CASE p.polcmd WHEN 'r' THEN '{select}' WHEN 'a' THEN '{insert}' WHEN 'w' THEN '{update}'
                                    WHEN 'd' THEN '{delete}' ELSE '{select,insert,update,delete}' END::text[],
            'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))), '[]')
        FROM pg_policy p WHERE p.polrelid = c.oid),
    -- What planning looks at, where it calls what is not PostgreSQL's own.
    'planned', (
        SELECT coalesce(jsonb_agg(DISTINCT x.text), '[]')
        FROM (SELECT 'pg_class'::regclass, i.indexrelid, pg_get_expr(i.indexprs, i.indrelid) FROM pg_index i WHERE i.indrelid = c.oid
              UNION ALL SELECT 'pg_class'::regclass, i.indexrelid, pg_get_expr(i.indpred, i.indrelid) FROM pg_index i WHERE i.indrelid = c.oid
              UNION ALL SELECT 'pg_class'::regclass, c.oid, pg_get_expr(p.partexprs, p.partrelid) FROM pg_partitioned_table p
               WHERE p.partrelid = c.oid
              UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid, pg_get_expr(s.stxexprs, s.stxrelid) FROM pg_statistic_ext s
               WHERE s.stxrelid = c.oid
              UNION ALL SELECT 'pg_constraint'::regclass, k.oid, pg_get_expr(k.conbin, k.conrelid) FROM pg_constraint k
               WHERE k.conrelid = c.oid AND k.contype = 'c') x (class, oid, text)
        WHERE x.text IS NOT NULL AND EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = x.class AND d.objid = x.oid
               AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass))),
    'inherits', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('schema', pn.nspname, 'name', p.relname)), '[]')
        FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
        WHERE i.inhrelid = c.oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname !~ '^pg_(toast|temp)';

-- routines
SELECT jsonb_build_object(
    'schema', n.nspname, 'name', p.proname,
    'arguments', pg_get_function_identity_arguments(p.oid),
    'kind', CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
    'volatility', CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
    'security_definer', p.prosecdef,
    'language', l.lanname,
    'search_path', (SELECT substr(setting, 13) FROM unnest(p.proconfig) s (setting) WHERE setting LIKE 'search\_path=%'),
    -- A text in SQL shows all that it does. Any other is not looked into where it is declared volatile.
    'body', CASE WHEN l.lanname = 'sql' OR p.provolatile <> 'v' AND l.lanname = 'plpgsql'
                 THEN coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) END,
    'types', (
        SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('schema', tn.nspname, 'name', t.typname)), '[]')
        FROM unnest(p.proargtypes::oid[] || coalesce(p.proallargtypes, '{}') || p.prorettype) o (oid)
        JOIN pg_type t ON t.oid = o.oid JOIN pg_namespace tn ON tn.oid = t.typnamespace
        WHERE t.oid >= 16384),
    'defaults', pg_get_expr(p.proargdefaults, 0),
    'calls', (
        SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('schema', fn.nspname, 'name', f.proname)), '[]')
        FROM pg_aggregate a, unnest(ARRAY[
                 a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
                 a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]::oid[]) o (oid)
        JOIN pg_proc f ON f.oid = o.oid JOIN pg_namespace fn ON fn.oid = f.pronamespace
        WHERE a.aggfnoid = p.oid)
        -- Native code that somebody gave another name, by the names that PostgreSQL or an extension's library has for it.
        || (
        SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('schema', 'pg_catalog', 'name', o.name)), '[]')
        FROM (SELECT q.proname FROM pg_proc q WHERE l.lanname = 'internal' AND q.prosrc = p.prosrc AND q.prolang = p.prolang
                 AND q.oid < 16384
              UNION SELECT p.prosrc WHERE l.lanname = 'c') o (name)
        WHERE p.prokind <> 'a'
          AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE p.oid >= 16384 AND n.nspname !~ '^pg_(toast|temp)';

-- operators
SELECT jsonb_build_object(
    'schema', n.nspname, 'name', o.oprname,
    'function', jsonb_build_object('schema', fn.nspname, 'name', f.proname))
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
JOIN pg_proc f ON f.oid = o.oprcode JOIN pg_namespace fn ON fn.oid = f.pronamespace
WHERE o.oid >= 16384;

-- types
SELECT jsonb_build_object(
    'schema', n.nspname, 'name', t.typname,
    'of', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('schema', bn.nspname, 'name', b.typname) ORDER BY bn.nspname, b.typname), '[]')
        FROM (SELECT t.typbasetype AS oid WHERE t.typtype = 'd'
              UNION SELECT a.atttypid FROM pg_attribute a
               WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
              UNION SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid OR r.rngmultitypid = t.oid) x
        JOIN pg_type b ON b.oid = x.oid JOIN pg_namespace bn ON bn.oid = b.typnamespace),
    'checks', (
        SELECT coalesce(jsonb_agg(pg_get_expr(k.conbin, 0) ORDER BY k.conname), '[]')
        FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'),
    'calls', (
        SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('schema', fn.nspname, 'name', f.proname)), '[]')
        FROM unnest(CASE WHEN t.typtype = 'b' THEN ARRAY[t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout]::oid[]
                         ELSE ARRAY(SELECT r.rngcanonical::oid FROM pg_range r WHERE r.rngtypid = t.oid OR r.rngmultitypid = t.oid) END) o (oid)
        JOIN pg_proc f ON f.oid = o.oid JOIN pg_namespace fn ON fn.oid = f.pronamespace))
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid >= 16384 AND (t.typcategory <> 'A' OR t.typtype <> 'b') AND t.typisdefined AND n.nspname !~ '^pg_(toast|temp)';

-- casts
SELECT jsonb_build_object(
    'source', jsonb_build_object('schema', sn.nspname, 'name', s.typname),
    'target', jsonb_build_object('schema', tn.nspname, 'name', t.typname),
    'function', jsonb_build_object('schema', fn.nspname, 'name', f.proname),
    'implicit', c.castcontext <> 'e')
FROM pg_cast c JOIN pg_type s ON s.oid = c.castsource JOIN pg_namespace sn ON sn.oid = s.typnamespace
JOIN pg_type t ON t.oid = c.casttarget JOIN pg_namespace tn ON tn.oid = t.typnamespace
JOIN pg_proc f ON f.oid = c.castfunc JOIN pg_namespace fn ON fn.oid = f.pronamespace
WHERE c.oid >= 16384 AND c.castmethod = 'f';
