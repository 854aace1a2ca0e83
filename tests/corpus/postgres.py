"""Runs PostgreSQL's own scripts on a server, and labels each statement there by what it does.

Each query is run twice: in a read-only transaction, with the analysed and rewritten trees logged, which is rolled back; and as
the script means it. Before it, what the database holds is read with the very query that `system inspect` uses.
"""

import glob
import json
import os
import re
import time

import psycopg
from psycopg import pq

from script import Script

FAMILIES = ("relations", "routines", "operators", "types", "casts")
DONE = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY)
OPEN, FAILED = pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR
SESSION = (
    "-c intervalstyle=postgres_verbose -c datestyle=Postgres,\\ MDY -c timezone=PST8PDT -c log_min_messages=panic "
    "-c statement_timeout=20s -c lc_messages=C -c lc_monetary=C"
)
SCRIPT_SECONDS = 300

# Scripts of the schedule that make what those from FIRST_LATER on work with.
MAKERS = """copy copyselect copydml insert insert_conflict create_function_c create_misc create_operator create_procedure
create_table create_type create_schema create_index create_index_spgist create_view index_including index_including_gist
create_aggregate create_function_sql create_cast constraints triggers select inherit typed_table vacuum drop_if_exists
updatable_views roleattributes create_am hash_func errors""".split()
FIRST_LATER = "select_into"
# One needs a stack that never ends, the other is the set-up itself.
LEFT_OUT = {"test_setup", "infinite_recurse"}

# Functions that do more than compute without needing a transaction that may write. Volatility tells no difference between them and
# `random`, so they are listed here, apart from the lists of the program under test.
HARD = re.compile(
    r"(nextval|setval|lo_.*|lowrite|loread|pg_read_.*|pg_ls_.*|pg_stat_file|pg_current_logfile|pg_terminate_backend|pg_cancel_backend|"
    r"set_config|setseed|.*advisory.*|dblink.*|pg_reload_conf|pg_rotate_logfile.*|pg_notify|pg_logical_.*|pg_replication_.*|"
    r"pg_create_.*|pg_drop_.*|pg_copy_.*|pg_sleep.*|pg_stat_reset.*|pg_switch_wal|pg_export_snapshot|pg_current_xact_id|txid_current|"
    r"brin_.*|gin_clean.*|pg_promote|pg_backup_.*|pg_import_system_collations|pg_stat_clear_snapshot|pg_stat_force_next_flush|"
    r"pg_log_backend.*|pg_nextoid|pg_prewarm|pg_file_.*|pg_stat_statements_reset|set_limit|isn_weak|pg_truncate_visibility_map|"
    r"heap_force_.*|(query|table|cursor|schema|database)_to_xml.*|ts_stat|ts_rewrite|xpath_table|crosstab.*|connectby|file_fdw.*|"
    r"postgres_fdw_.*|pg_walinspect.*)"
)

# Statements that change nothing of what is inspected.
KEEPS = set("insert update delete merge copy select values table with explain show fetch move close declare prepare "
            "deallocate analyze vacuum begin start savepoint release notify listen unlisten checkpoint".split())

# What the script made itself: by no extension, and not by initdb.
OWN = """SELECT DISTINCT jsonb_build_array(kind, name) FROM (
    SELECT 'routine', proname, oid, 'pg_proc'::regclass FROM pg_proc
    UNION ALL SELECT 'type', typname, oid, 'pg_type'::regclass FROM pg_type
    UNION ALL SELECT 'operator', oprname, oid, 'pg_operator'::regclass FROM pg_operator
    UNION ALL SELECT 'relation', relname, oid, 'pg_class'::regclass FROM pg_class) o (kind, name, oid, class)
WHERE oid >= 16384 AND NOT EXISTS (
    SELECT FROM pg_depend e WHERE e.classid = o.class AND e.objid = o.oid AND e.deptype = 'e')"""

# An aggregate is as volatile as its parts.
FUNCTIONS = """SELECT p.oid, p.proname, p.provolatile = 'v' OR EXISTS (
    SELECT FROM pg_aggregate a, pg_proc q WHERE a.aggfnoid = p.oid AND q.provolatile = 'v' AND q.oid = ANY (ARRAY[a.aggtransfn,
    a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]::oid[]))
FROM pg_catalog.pg_proc p WHERE p.oid = ANY ('{%s}') OR p.oid IN (
    SELECT oprcode FROM pg_catalog.pg_operator WHERE oid = ANY ('{%s}'))"""


class Moments:
    """What the database held, each object once: `rows`, and by number for each moment: `snapshots`."""

    def __init__(self, place):
        self.rows, self.snapshots = open(place + ".rows", "w"), open(place + ".snapshots", "w")
        self.known, self.whole = {}, {}

    def add(self, row):
        return self._numbered(self.known, self.rows, row)

    def moment(self, families):
        return self._numbered(self.whole, self.snapshots, json.dumps(families))

    @staticmethod
    def _numbered(known, file, text):
        if text not in known:
            known[text] = len(known)
            file.write(text + "\n")
        return known[text]


class Server:
    def __init__(self, url, source, libraries, inspect):
        self.url, self.source = url, source
        self.queries = {name: inspect.split(f"-- {name}\n", 1)[1].split(";")[0] for name in FAMILIES} | {"own": OWN}
        self.environment = {
            "PG_ABS_SRCDIR": source + "/src/test/regress",
            "PG_ABS_BUILDDIR": source + "/src/test/regress",
            "PG_LIBDIR": libraries,
            "PG_DLSUFFIX": ".so",
        }

    def connect(self, database, user=None):
        conninfo = psycopg.conninfo.make_conninfo(
            self.url, dbname=database, options=SESSION, connect_timeout=10, application_name="pg_regress"
        )
        if user:
            conninfo = psycopg.conninfo.make_conninfo(conninfo, user=user)
        return pq.PGconn.connect(conninfo.encode())

    def rows(self, sql):
        connection = self.connect("postgres")
        result = connection.exec_(sql.encode())
        if result.status not in DONE:
            raise RuntimeError(f"{sql[:80]}: {result.error_message.decode()}")
        found = [[result.get_value(row, 0).decode()] for row in range(result.ntuples)]
        connection.finish()
        return [row[0] for row in found]

    def fresh(self, database, template="template0"):
        self.drop(database)
        locale = " LC_COLLATE 'C' LC_CTYPE 'C' ENCODING 'UTF8'" if template == "template0" else ""
        self.rows(f'CREATE DATABASE "{database}" TEMPLATE "{template}"{locale}')

    def drop(self, database):
        self.rows(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


class Run:
    """One script in one database."""

    def __init__(self, server, database, name, out, moments):
        self.server, self.database, self.name, self.out, self.moments = server, database, name, out, moments
        self.trees, self.functions, self.connection = [], {}, None
        self.open()

    def open(self, user=None):
        if self.connection is not None:
            self.connection.finish()
        self.connection = self.server.connect(self.database, user)
        if self.connection.status != pq.ConnStatus.OK:
            self.connection = self.server.connect(self.database)
        self.connection.notice_handler = self.notice
        self.snapshot = None

    def notice(self, result):
        if result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) in (b"parse tree:", b"rewritten parse tree:"):
            self.trees.append((result.error_field(pq.DiagnosticField.MESSAGE_DETAIL) or b"").decode("utf8", "replace"))

    def send(self, sql, data=""):
        if self.connection.status != pq.ConnStatus.OK:
            self.open()
        result = self.connection.exec_(sql.encode("utf8", "replace"))
        while result.status in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT):
            if result.status == pq.ExecStatus.COPY_IN:
                if data:
                    self.connection.put_copy_data(data.encode("utf8", "replace"))
                self.connection.put_copy_end()
            else:
                while self.connection.get_copy_data(0)[0] > 0:
                    pass
            copying = result.status
            while (following := self.connection.get_result()) is not None:
                result = following
                if result.status in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT):
                    break
            if following is None and result.status == copying:
                break
        return result

    def rows(self, sql):
        result = self.send(sql)
        if result.status != pq.ExecStatus.TUPLES_OK:
            return None
        return [
            [(result.get_value(row, field) or b"").decode("utf8", "replace") for field in range(result.nfields)]
            for row in range(result.ntuples)
        ]

    def state(self):
        return self.connection.transaction_status

    def moment(self):
        """The number of what the database holds now; none where it could not be read."""
        if self.snapshot is None:
            inside = self.state() == OPEN
            self.send("SAVEPOINT countersign" if inside else "BEGIN")
            path = self.rows("SELECT s FROM unnest(current_schemas(false)) s WHERE s !~ '^pg_temp'")
            families = {"search_path": [row[0] for row in path or []]}
            self.send("SET LOCAL search_path = pg_catalog")
            for family, sql in self.server.queries.items():
                rows = self.rows(sql)
                families[family] = rows and [self.moments.add(row[0]) for row in rows]
            self.send("ROLLBACK TO SAVEPOINT countersign; RELEASE SAVEPOINT countersign" if inside else "ROLLBACK")
            if path is None or None in families.values():
                return None
            self.snapshot = self.moments.moment(families)
        return self.snapshot

    def judge(self, sql):
        """What a query does, in a read-only transaction that is rolled back: its label, and the names of what it runs."""
        inside = self.state() == OPEN
        self.send("SAVEPOINT countersign; SET LOCAL transaction_read_only = on" if inside else "BEGIN READ ONLY")
        number = "SELECT pg_catalog.pg_current_xact_id_if_assigned()::text"
        before = self.rows(number)
        self.send("SET LOCAL client_min_messages = log; SET LOCAL debug_print_parse = on; SET LOCAL debug_print_rewritten = on; "
                  "SET LOCAL debug_pretty_print = off")
        self.trees = []
        result = self.send(sql)
        trees = " ".join(self.trees)
        code = None if result.status in DONE else (result.error_field(pq.DiagnosticField.SQLSTATE) or b"?").decode()
        names, volatile, writes = [], False, False
        if code is None and self.state() == OPEN:
            self.send("SET LOCAL debug_print_parse = off; SET LOCAL debug_print_rewritten = off; SET LOCAL client_min_messages = notice")
            writes = before != self.rows(number)
            names, volatile = self.run_by(trees)
        self.send("ROLLBACK TO SAVEPOINT countersign; RELEASE SAVEPOINT countersign" if inside else "ROLLBACK")
        if code == "25006" or writes:
            return "write", names
        if code is not None:
            return "error", names
        if any(HARD.fullmatch(name) for name in names):
            return "hard", names
        if volatile:
            return "volatile", names
        return ("plain" if trees else "unseen"), names

    def run_by(self, trees):
        functions = set(re.findall(r":(?:funcid|opfuncid|aggfnoid|winfnoid|hashfuncid|negfuncid|tsmhandler) ([1-9]\d*)", trees))
        operators = set(re.findall(r":opno ([1-9]\d*)", trees))
        if not functions and not operators:
            return [], False
        found = self.rows(FUNCTIONS % (",".join(functions), ",".join(operators)))
        found = found or []
        return sorted({row[1] for row in found}), any(row[2] == "t" for row in found)

    def statement(self, sql, line, data, script):
        first = re.sub(r"^(\s|/\*.*?\*/)+", "", sql, flags=re.S)
        word = (re.match(r"[A-Za-z]+|\(", first) or re.match(r"", "")).group().lower()
        if self.state() != FAILED and word in ("select", "values", "table", "with", "explain", "show", "("):
            moment = self.moment()
            label, names = self.judge(sql)
            label = relabelled(label, word, sql) if moment is not None else "not inspected"
            record = {"script": self.name, "line": line, "sql": sql.strip(), "snapshot": moment, "label": label, "runs": names}
            self.out.write(json.dumps(record) + "\n")
            changes = label in ("write", "hard", "volatile", "unseen", "several")
        else:
            changes = word not in KEEPS
        result = self.send(sql, data)
        if changes:
            self.snapshot = None
        setting = re.match(r"(set|reset)\s+standard_conforming_strings\s*(?:=|to)?\s*(\w*)", first, re.I)
        if setting:
            script.standard = setting.group(2).lower() != "off"
        return result

    def run(self, path, judged=True):
        text = open(path, encoding="utf8", errors="replace").read()
        given = {"DBNAME": self.database, "USER": "postgres", "ENCODING": "UTF8", "VERSION": "15"}
        script, start = Script(text, given, self.server.environment), time.monotonic()
        for kind, what, how in script.items():
            if time.monotonic() - start > SCRIPT_SECONDS:
                print(f"{self.name}: left off after {SCRIPT_SECONDS} s at line {script.line()}", flush=True)
                break
            if kind == "meta":
                self.command(what, how, script)
            elif what.strip():
                copies = re.match(r"\s*copy\b", what, re.I) and re.search(r"\bfrom\s+stdin\b", what, re.I)
                data, line = script.data() if copies else "", script.line()
                send = self.statement if judged else lambda sql, line, data, script: self.send(sql, data)
                result = send(what, line, data, script)
                self.answered(result, how, lambda sql: send(sql, line, "", script), script)
        self.connection.finish()

    def answered(self, result, how, send, script):
        if not how or result.status != pq.ExecStatus.TUPLES_OK:
            return
        cells = [(result.fname(f).decode(), result.get_value(r, f)) for r in range(result.ntuples) for f in range(result.nfields)]
        for name, value in cells:
            if value is not None and how[0] == "gset" and result.ntuples == 1:
                script.variables[how[1] + name] = value.decode()
            elif value is not None and how[0] == "gexec":
                send(value.decode())

    def command(self, command, arguments, script):
        if command in ("c", "connect"):
            words = script.filled(arguments).split()
            self.open(words[1] if len(words) > 1 and words[1] != "-" else None)
        elif command == "copy":
            asked = re.sub(r":'(\w+)'", lambda m: "'" + script.variables.get(m.group(1), "") + "'", arguments).rstrip(";")
            if re.search(r"\bfrom\s+stdin\b", asked, re.I):
                self.send("COPY " + asked, script.data())
            elif (file := re.search(r"\bfrom\s+('?)([^'\s]+)\1", asked, re.I)) and os.path.exists(file.group(2)):
                content = open(file.group(2), encoding="utf8", errors="replace").read()
                self.send(f"COPY {asked[: file.start()]} FROM STDIN {asked[file.end() :]}", content)
            self.snapshot = None


def relabelled(label, word, sql):
    """Reads that are none for another reason than what their tree runs."""
    if label == "unseen" and word == "show":
        return "plain"
    if label != "plain":
        return label
    if word == "explain" and re.match(r"\s*explain\s*(\([^)]*analyze|(verbose\s+)?analyze)", sql, re.I):
        return "analyze"
    if word == "explain" and re.match(r"\s*explain\b.*\bexecute\b", sql, re.I | re.S):
        return "prepared"
    if re.search(r"\bfor\s+(no\s+key\s+)?(update|share|key\s+share)\b", sql, re.I):
        return "locks"
    if re.search(r";\s*(savepoint|commit|begin|rollback)", sql, re.I):
        return "several"
    return label


def jobs(source):
    """Label, scripts, and whether the database needs what the makers made."""
    directory = source + "/src/test/regress/"
    schedule = [
        name
        for line in open(directory + "parallel_schedule")
        if line.startswith("test:")
        for name in line[5:].split()
    ]
    later = schedule.index(FIRST_LATER)
    for at, name in enumerate(schedule):
        if name not in LEFT_OUT:
            yield name, [(f"{directory}sql/{name}.sql", f"regress/{name}")], "made" if at >= later else "base"
    for makefile in sorted(glob.glob(source + "/contrib/*/Makefile")):
        place = os.path.dirname(makefile)
        listed = re.search(r"^REGRESS\s*=\s*(.*)$", open(makefile).read().replace("\\\n", " "), re.M)
        extension = os.path.basename(place)
        if listed:
            scripts = [(f"{place}/sql/{name}.sql", f"{extension}/{name}") for name in listed.group(1).split()]
            yield "contrib_" + extension, [one for one in scripts if os.path.exists(one[0])], "template0"
    scripts = sorted(glob.glob(source + "/src/pl/plpgsql/src/sql/*.sql"))
    yield "plpgsql", [(path, "plpgsql/" + os.path.basename(path)[:-4]) for path in scripts], "template0"


def label(server, place, share, only):
    """Runs this share of the scripts, and writes labels and snapshots to `place`."""
    part, parts = share
    chosen = [job for at, job in enumerate(jobs(server.source)) if at % parts == part and (not only or job[0] in only)]
    databases = {"template0": "template0", "base": "countersign_base", "made": "countersign_made"}
    regress = server.source + "/src/test/regress/sql/"

    class Nowhere:
        def write(self, _):
            pass

    moments = Moments(place)
    server.fresh(databases["base"])
    Run(server, databases["base"], "set-up", Nowhere(), moments).run(regress + "test_setup.sql", judged=False)
    server.fresh(databases["made"], databases["base"])
    if any(template == "made" for _, _, template in chosen):
        for maker in MAKERS:
            Run(server, databases["made"], "set-up", Nowhere(), moments).run(regress + maker + ".sql", judged=False)
    with open(place + ".labels", "w") as out:
        for name, scripts, template in chosen:
            start, roles = time.monotonic(), set(server.rows("SELECT rolname FROM pg_roles"))
            database = "countersign_" + re.sub(r"\W", "_", name)[:40]
            server.fresh(database, databases[template])
            for path, shown in scripts:
                Run(server, database, shown, out, moments).run(path)
            server.drop(database)
            for role in set(server.rows("SELECT rolname FROM pg_roles")) - roles:
                for sql in (f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"'):
                    connection = server.connect("postgres")
                    connection.exec_(sql.encode())
                    connection.finish()
            for file in (out, moments.rows, moments.snapshots):
                file.flush()
            print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
    for database in (databases["base"], databases["made"]):
        server.drop(database)
