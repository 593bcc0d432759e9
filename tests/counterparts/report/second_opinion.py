"""second_opinion.py FOLDER: DuckDB over the exported samples against what the reports say; a line a figure,
parted by tabs: what, wanted, found."""

import json
import os
import sys

import duckdb

folder = sys.argv[1]
load = lambda name: json.load(open(os.path.join(folder, name)))["servers"][0]
db = duckdb.connect()
db.execute(
    f"""CREATE TABLE s AS SELECT *, epoch_ms("at"::TIMESTAMPTZ) AS ms FROM read_csv_auto('{folder}/samples.csv')"""
)
one = lambda sql: db.execute(sql).fetchone()[0]


def told(what, wanted, found):
    print(what, wanted, found, sep="\t")


total = next(c for c in load("performance.json")["checks"] if c["check"] == "metadata" and c["phase"] == "total")
told("samples with a response time", one("SELECT count(*) FROM s"), total["count"])
told("mean", round(one("SELECT avg(duration_ms) FROM s"), 2), round(total["mean_ms"], 2))
told("smallest", one("SELECT min(duration_ms) FROM s"), total["min_ms"])
told("largest", one("SELECT max(duration_ms) FROM s"), total["max_ms"])
for name, q in [("p50_ms", 0.5), ("p90_ms", 0.9), ("p95_ms", 0.95), ("p99_ms", 0.99)]:
    exact = one(f"SELECT quantile_disc(duration_ms, {q}) FROM s")
    close = abs(total[name] - exact) <= exact * total["relative_error"]
    told(f"{name} within the stated error of the exact one", True, close)

errors = load("errors.json")
told("failed samples", one("SELECT count(*) FROM s WHERE status = 'critical'"), errors["failed"])
by_status = {share["name"]: share["count"] for share in errors["by_http_status"]}
told("answers 503", one("SELECT count(*) FROM s WHERE http_status = 503"), by_status["503"])

# Time by the rule: to the next reading within 1.5 minutes, else for a minute; planned time aside.
held = """
    SELECT status, ms, least(CASE WHEN coalesce(after, ms + 60000) - ms <= 90000
                             THEN coalesce(after, ms + 60000) ELSE ms + 60000 END,
                             epoch_ms(TIMESTAMPTZ '2026-04-01T00:00:00Z')) AS until
    FROM (SELECT status, ms, lead(ms) OVER (ORDER BY ms) AS after FROM s)
"""
planned = [f"epoch_ms(TIMESTAMPTZ '{at}')" for at in ["2026-03-10T22:00:00Z", "2026-03-11T02:00:00Z"]]
less = f"greatest(0, least(until, {planned[1]}) - greatest(ms, {planned[0]}))"
totals = load("availability.json")["totals"]
for status, name in [("healthy", "up_ms"), ("critical", "down_ms")]:
    told(name, int(one(f"SELECT sum(until - ms - {less}) FROM ({held}) WHERE status = '{status}'")), totals[name])
told("maintenance_ms", 4 * 3_600_000, totals["maintenance_ms"])
told("all of the month", 31 * 86_400_000, totals["window_ms"])
