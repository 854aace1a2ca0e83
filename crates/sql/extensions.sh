#!/usr/bin/env bash
# Makes src/postgres/extensions.txt from real servers: what PostgreSQL's bundled extensions bring that changes nothing.
#
#   crates/sql/extensions.sh postgres://…15… postgres://…18… > crates/sql/src/postgres/extensions.txt
#
# Each server must have the extensions at hand (Debian: postgresql-contrib) and let the account create a database. A line
# is a word and a name: `=` an extension and its version, `f` a function of which every form only computes or reads what
# it is given, `x` one of which some form does more, `o` an operator, `t` a type,
# `v` a function that is harmless and declared volatile. Those that a test looks at again:
# crates/sql/tests/it/extensions.rs.
set -euo pipefail

# Those that bring types, functions and operators for queries. Not those that look into the server, reach other ones or
# run in triggers: nothing of these is a plain read.
extensions="bloom btree_gin btree_gist citext cube dict_int dict_xsyn earthdistance fuzzystrmatch hstore intagg intarray isn lo
    ltree pg_trgm pgcrypto seg sslinfo tablefunc tsm_system_rows tsm_system_time unaccent uuid-ossp xml2"

database=countersign_extensions_$$
facts() {
    local server=$1
    psql -qX "$server" -c "create database $database" >&2
    trap 'psql -qX "$server" -c "drop database if exists $database with (force)" >&2' EXIT
    place=${server%/*}/$database
    for extension in $extensions; do
        psql -qX "$place" -c "set client_min_messages = error; create extension if not exists \"$extension\" cascade" >&2
    done
    psql -qXAt "$place" -v ON_ERROR_STOP=1 <<'SQL'
-- Volatile, and harmless all the same: chance, the clock, a sample, what the own connection is encrypted with.
create temp table looked_at as select unnest('{gen_random_bytes,gen_random_uuid,gen_salt,normal_rand,
    pgp_pub_encrypt,pgp_pub_encrypt_bytea,pgp_sym_encrypt,pgp_sym_encrypt_bytea,uuid_generate_v1,uuid_generate_v1mc,
    uuid_generate_v4,system_rows,system_time,fips_mode,ssl_cipher,ssl_client_cert_present,ssl_client_dn,
    ssl_client_dn_field,ssl_client_serial,ssl_extension_info,ssl_is_used,ssl_issuer_dn,ssl_issuer_field,
    ssl_version,int_agg_state,int_agg_final_array}'::text[]) as name;
-- Stable or immutable by their own word, and not harmless: they run a text as SQL, keep something in the session, or read
-- files.
create temp table never as select unnest('{connectby,crosstab,crosstab2,crosstab3,crosstab4,crosstab_hash,xpath_table,
    xslt_process,isn_weak,set_limit}'::text[]) as name;
create temp view member as
    select e.oid as extension, d.classid, d.objid from pg_extension e join pg_depend d
        on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.deptype = 'e' where e.extname <> 'plpgsql';
create temp table function as
    select m.extension, p.oid, p.proname::text as name,
        (p.provolatile <> 'v' or p.proname in (select name from looked_at)) and p.proname not in (select name from never)
            and l.lanname in ('c', 'internal', 'sql') and p.prokind in ('f', 'a', 'w')
            and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype) as harmless,
        -- No statement can call these.
        p.prorettype <> 'internal'::regtype and 'internal'::regtype <> all (p.proargtypes::oid[])
            or p.proname in ('system_rows', 'system_time') as called
    from member m join pg_proc p on m.classid = 'pg_proc'::regclass and p.oid = m.objid join pg_language l on l.oid = p.prolang;
-- An aggregate is what its functions are, and a type what converts it.
update function f set harmless = false from pg_aggregate a where a.aggfnoid = f.oid and exists (
    select from function part where not part.harmless and not part.called is null and part.called
        and part.oid in (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggmfinalfn));
with line (extension, kind, name) as (
    select extension, case when bool_and(harmless) then 'f' else 'x' end, name from function where called group by extension, name
    union
    select extension, 'v', name from function where harmless and name in (select name from looked_at)
    union
    select m.extension, 'o', o.oprname from member m join pg_operator o on m.classid = 'pg_operator'::regclass and o.oid = m.objid
        group by m.extension, o.oprname having bool_and(coalesce(
            (select f.harmless from function f where f.oid = o.oprcode),
            o.oprcode::oid in (select oid from pg_proc where pronamespace = 'pg_catalog'::regnamespace and provolatile <> 'v')))
    union
    select m.extension, 't', t.typname from member m join pg_type t on m.classid = 'pg_type'::regclass and t.oid = m.objid
        where t.typtype in ('b', 'd', 'r', 'm', 'c') and t.typelem = 0 and not exists (
            select from function f where f.oid in (t.typinput, t.typoutput, t.typmodin) and not f.harmless)
)
select e.extname, e.extversion, l.kind, l.name from line l join pg_extension e on e.oid = l.extension
union all
select extname, extversion, '', '' from pg_extension where extname <> 'plpgsql';
SQL
    psql -qX "$server" -c "drop database $database with (force)" >&2
    trap - EXIT
}

# Of one version that both have, what either says.
for server in "$@"; do facts "$server"; done | LC_ALL=C sort -t '|' -u -k1,1 -k2,2 -k3,3 -k4,4 | awk -F '|' '
    $1 " " $2 != section { section = $1 " " $2; print "= " section }
    $3 != "" { print $3 " " $4 }'
