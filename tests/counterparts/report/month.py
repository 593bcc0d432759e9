"""month.py csv|openmetrics: March 2026 of two servers, a result a minute, the same at every run."""

import datetime
import random
import sys

start = int(datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc).timestamp())
draw = random.Random(7)
rows = []
for server in ["ehr", "lab"]:
    left = 0
    for minute in range(31 * 24 * 60):
        if left == 0 and draw.random() < 0.0003:
            left = draw.randrange(1, 45)
        down = left > 0
        left = max(0, left - 1)
        took = round(max(1.0, draw.lognormvariate(5.3, 0.4)), 3)
        # A hole of three hours on the 15th.
        if not 20_500 <= minute < 20_680:
            rows.append((server, start + minute * 60, down, took))
if sys.argv[1] == "csv":
    print("server,at,check,status,code,duration_ms,http_status")
    for server, at, down, took in rows:
        when = datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        result = "critical,http.status" if down else "healthy,"
        print(f"{server},{when},metadata,{result},{took},{503 if down else 200}")
else:
    print("# TYPE probe_success gauge")
    for server, at, down, _ in rows:
        print(f'probe_success{{instance="{server}"}} {int(not down)} {at}')
    print("# TYPE probe_duration_seconds gauge")
    for server, at, _, took in rows:
        print(f'probe_duration_seconds{{instance="{server}"}} {took / 1000} {at}')
    print("# EOF")
