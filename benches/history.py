"""history.py: makes samples for history.sh, and asks DuckDB and SQLite what fhirctl is asked.

    history.py make FOLDER SERVERS DAYS     raw.duckdb, and a CSV a day
    history.py clones FILE SERVERS OWN      multiplies a history's servers by SQL
    history.py widen FOLDER SERVERS OWN     multiplies the raw rows likewise
    history.py duckdb FOLDER FROM TO        milliseconds of an exact summary, least of three, then the figures
    history.py sqlite FOLDER FROM TO        the same in SQLite, once
    history.py load FOLDER                  the raw rows of the own servers into raw.sqlite
"""

import json
import sqlite3
import sys
import time

import duckdb

# 2026-08-01: what is packed and rolled up has to be over.
BEGIN = 1_785_542_400
CODES = "CASE WHEN status = 'healthy' THEN 200 ELSE 503 END"
EXACT = """SELECT server, count(*), avg(duration_us), quantile_disc(duration_us, [0.5, 0.9, 0.95, 0.99]),
           sum(CASE WHEN status = 'critical' THEN 1 ELSE 0 END)
           FROM sample WHERE taken >= ? AND taken < ? GROUP BY server ORDER BY server"""


def make(folder, servers, days):
    db = duckdb.connect(f"{folder}/raw.duckdb")
    # Log-normal by Box and Muller from two hashes; one minute in seven hundred is down.
    db.execute(f"""CREATE TABLE sample AS
        WITH minute AS (SELECT s.range AS s, {BEGIN} + m.range * 60 AS second
                        FROM range({servers}) s, range({days * 1440}) m),
        noise AS (SELECT *, (hash(s, second) % 1000003 + 1) / 1000004.0 AS a,
                         (hash(second, s, 7) % 1000003 + 1) / 1000004.0 AS b,
                         hash(s, second // 600, 3) % 700 AS c FROM minute)
        SELECT s::INTEGER AS server, second * 1000 AS taken,
               CASE WHEN c = 0 THEN 'critical' ELSE 'healthy' END AS status,
               (exp(11 + s % 10 * 0.1 + 0.4 * sqrt(-2 * ln(a)) * cos(6.283185307 * b)))::BIGINT AS duration_us
        FROM noise ORDER BY taken, server""")
    for day in range(days):
        begin = (BEGIN + day * 86_400) * 1000
        db.execute(f"""COPY (SELECT taken // 1000 AS "at", 's' || lpad(server::VARCHAR, 4, '0') AS server,
            'metadata' AS "check", status, (duration_us // 1000) || '.' || lpad((duration_us % 1000)::VARCHAR, 3, '0')
            AS duration_ms, {CODES} AS http_status
            FROM sample WHERE taken >= {begin} AND taken < {begin + 86_400_000} ORDER BY taken, server)
            TO '{folder}/{day:03}.csv' (HEADER)""")


def clones(file, servers, own):
    db = sqlite3.connect(file)
    for copy in range(1, servers // own):
        shift = copy * own
        columns = "born, head, written, kept, kept_head, first_at, last_at, removed_at, rolled_to, pruned_to"
        db.execute(f"""INSERT INTO server (id, name, tail, {columns})
            SELECT id + {shift}, printf('s%04d', substr(name, 2) + {shift}), NULL, {columns}
            FROM server WHERE id <= {own}""")
        db.execute(f"INSERT INTO rollup SELECT server + {shift}, level, at, body FROM rollup WHERE server <= {own}")
        columns = "position, readings, day, from_at, to_at, first_run, head_before, head_after, points, samples, details"
        db.execute(f"INSERT INTO segment (server, {columns}) SELECT server + {shift}, {columns} FROM segment WHERE server <= {own}")
        db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def widen(folder, servers, own):
    db = duckdb.connect(f"{folder}/raw.duckdb")
    db.execute(f"""CREATE TABLE wide AS SELECT (server + copy.range * {own})::INTEGER AS server, taken, status, duration_us
        FROM sample, range({servers // own}) copy ORDER BY taken, server""")
    db.execute("DROP TABLE sample")
    db.execute("ALTER TABLE wide RENAME TO sample")


def asked(ask, times):
    least, rows = None, None
    for _ in range(times):
        begun = time.monotonic()
        rows = ask()
        took = (time.monotonic() - begun) * 1000
        least = took if least is None else min(least, took)
    return least, rows


def ask_duckdb(folder, begin, end):
    db = duckdb.connect(f"{folder}/raw.duckdb", read_only=True)
    least, rows = asked(lambda: db.execute(EXACT, [begin, end]).fetchall(), 3)
    print(json.dumps({"ms": least, "rows": [{"server": f"s{r[0]:04}", "count": r[1], "p": r[3]} for r in rows]}))


def load(folder):
    raw = duckdb.connect(f"{folder}/raw.duckdb", read_only=True)
    db = sqlite3.connect(f"{folder}/raw.sqlite")
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("CREATE TABLE sample (server INTEGER, taken INTEGER, status TEXT, duration_us INTEGER)")
    cursor = raw.execute("SELECT server, taken, status, duration_us FROM sample ORDER BY server, taken")
    while rows := cursor.fetchmany(500_000):
        db.executemany("INSERT INTO sample VALUES (?, ?, ?, ?)", rows)
    db.execute("CREATE INDEX sample_server ON sample (server, taken)")
    db.commit()


def ask_sqlite(folder, begin, end):
    db = sqlite3.connect(f"{folder}/raw.sqlite")
    rank = "max(CASE WHEN nth >= {0} * total AND nth < {0} * total + 1 THEN duration_us END)"
    ranks = ", ".join(rank.format(q) for q in (0.5, 0.9, 0.95, 0.99))
    exact = f"""SELECT server, max(total), avg(duration_us), {ranks}, sum(status = 'critical') FROM
        (SELECT server, duration_us, status, row_number() OVER (PARTITION BY server ORDER BY duration_us) AS nth,
         count(*) OVER (PARTITION BY server) AS total FROM sample WHERE taken >= ? AND taken < ?) GROUP BY server"""
    least, rows = asked(lambda: db.execute(exact, [begin, end]).fetchall(), 1)
    print(json.dumps({"ms": least, "rows": len(rows)}))


if __name__ == "__main__":
    what, folder, *rest = sys.argv[1:]
    numbers = [int(number) for number in rest]
    {"make": make, "clones": clones, "widen": widen, "duckdb": ask_duckdb, "sqlite": ask_sqlite, "load": load}[what](
        folder, *numbers
    )
