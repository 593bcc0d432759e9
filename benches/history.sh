#!/usr/bin/env bash
# history.sh BINARY [SERVERS] [DAYS] [OWN]: history at its size, in one run on one machine. OWN servers are taken in
# by `history import`, a reading a minute, packed and rolled up day by day; SQL multiplies them up to SERVERS. Then
# the summary of all of it against the same exact percentiles by DuckDB over raw rows and, over the own servers, by
# SQLite; how it grows from a day to all days; ingest into SQLite, and into PostgreSQL against COPY of the same rows.
# Wants a release build. KEEP=FOLDER keeps what was made, and goes on with what is there. Ends with 1 when a figure
# is missed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$bench/../tests/counterparts/lib.sh"
fhirctl=$(realpath "${1:?usage: history.sh BINARY [SERVERS] [DAYS] [OWN]}")
servers=${2:-1000}
days=${3:-90}
own=${4:-100}
require jq jq
lock="$bench/../tests/counterparts/report/requirements.txt"
python="$(install_once report "$(realpath "$lock")" python_packages "$(realpath "$lock")")/bin/python"
data=${KEEP:-$desk/data}
mkdir -p "$data"
export NO_COLOR=1

{
    echo "version: 1"
    echo "servers:"
    for ((nth = 0; nth < servers; nth++)); do
        printf '  - {name: s%04d, url: "https://s%04d.example.org/fhir", schedule: {every: 60s}}\n' "$nth" "$nth"
    done
} >"$data/servers.yaml"
h() { "$fhirctl" -i "$data/servers.yaml" --no-progress "$@"; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
peak=0
# measured COMMAND…: sets `took` (milliseconds) and raises `peak` (MB).
measured() {
    local mb code
    python3 "$bench/measure.py" "$desk/measured" "$@" >"$desk/out"
    read -r took mb code <<<"$(jq -r '[.wall * 1000, .rss / 1048576, .code] | map(floor | tostring) | join(" ")' "$desk/measured")"
    [ "$code" = 0 ] || { cat "$desk/out" >&2; exit 1; }
    [ "$mb" -le "$peak" ] || peak=$mb
}
least_of() { # TIMES COMMAND…: the least time of some runs
    local least=999999999 times=$1
    shift
    for _ in $(seq "$times"); do
        measured "$@"
        [ "$took" -ge "$least" ] || least=$took
    done
    took=$least
}

begin=1785542400
if [ ! -e "$data/servers.history.db.whole" ]; then
    rm -f "$data"/*.db* "$data"/raw.* "$data"/*.csv
    "$python" "$bench/history.py" make "$data" "$own" "$days"
    ingest=0
    for ((day = 0; day < days; day++)); do
        measured "$fhirctl" -i "$data/servers.yaml" --no-progress history import "$(printf '%s/%03d.csv' "$data" "$day")"
        ingest=$((ingest + took))
        measured "$fhirctl" -i "$data/servers.yaml" --no-progress history compact
    done
    rm -f "$data"/0[1-9]?.csv
    echo $((own * days * 1440 * 1000 / ingest)) >"$data/rate"
    sqlite_bytes=$(h -o json history status | jq .size_bytes)
    echo "$sqlite_bytes" >"$data/bytes"
    "$python" "$bench/history.py" load "$data"
    "$python" "$bench/history.py" clones "$data/servers.history.db" "$servers" "$own"
    "$python" "$bench/history.py" widen "$data" "$servers" "$own"
    touch "$data/servers.history.db.whole"
fi
samples=$((servers * days * 1440))
printf '%d samples of %d servers over %d days, %d MB of history\n' "$samples" "$servers" "$days" \
    "$(($(stat -c %s "$data/servers.history.db") / 1048576))"

iso() { date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ; }
# In the middle of an hour at both ends, so that readings are needed as well.
from=$((begin + 1800))
to=$((begin + days * 86400 - 1800))
summary=("$fhirctl" -i "$data/servers.yaml" --no-progress -o json report summary --from "$(iso "$from")" --to "$(iso "$to")")
least_of 3 "${summary[@]}"
ours=$took
cp "$desk/out" "$desk/summary.json"
"$python" "$bench/history.py" duckdb "$data" $((from * 1000)) $((to * 1000)) >"$desk/duckdb.json"
duck=$(jq '.ms | floor' "$desk/duckdb.json")
least_of 3 "${summary[@]}" 's00[0-9][0-9]'
ours_own=$took
"$python" "$bench/history.py" sqlite "$data" $((from * 1000)) $((to * 1000)) >"$desk/sqlite.json"
lite=$(jq '.ms | floor' "$desk/sqlite.json")
printf 'summary  fhirctl %d ms, DuckDB %d ms (all servers); fhirctl %d ms, SQLite %d ms (%d servers)\n' \
    "$ours" "$duck" "$ours_own" "$lite" "$own"
ratio() { awk "BEGIN { printf \"%.4f\", $1 / $2 }"; }
judge "summary of all, in milliseconds" "$ours" 1000 " ms"
judge "its time, of DuckDB's over raw rows" "$(ratio "$ours" "$duck")" 0.2 x
judge "its time, of SQLite's over raw rows (own servers)" "$(ratio "$ours_own" "$lite")" 0.05 x

# Percentiles within the stated error of the exact ones, counts exactly.
worst=$(jq -n --slurpfile a "$desk/summary.json" --slurpfile b "$desk/duckdb.json" '
    ($b[0].rows | map({key: .server, value: .}) | from_entries) as $exact
    | [$a[0].servers[] | . as $row | $exact[.name] as $e | ([.latency.p50_ms, .latency.p90_ms, .latency.p95_ms, .latency.p99_ms] | to_entries[]
       | ((.value * 1000 / $e.p[.key]) - 1 | fabs)), (if .latency.count == $e.count then 0 else 1 end)] | max')
judge "percentiles, farthest from the exact ones, in percent" "$(awk "BEGIN { print 100 * $worst }")" 0.78125 " %"

bytes=$(ratio "$(cat "$data/bytes")" $((own * days * 1440)))
judge "bytes a sample after compaction, all of SQLite's" "$bytes" 40 " B"
judge "peak of memory throughout" "$peak" 150 " MB"

# A window of one day, of nine, of ninety: ninety times the days must not take ninety times the time.
line=
for window in 1 $((days > 19 ? days / 10 : 1)) "$days"; do
    least_of 3 "$fhirctl" -i "$data/servers.yaml" --no-progress -o json report summary --from "$(iso $((to - window * 86400 + 3600)))" --to "$(iso "$to")"
    line+="$window d: $took ms  "
    [ "$window" != 1 ] || day_ms=$took
done
echo "growth   $line"
judge "time of all days, of one day's, a day" "$(ratio "$took" $((day_ms * days)))" 0.5 x

judge "ingest into SQLite, 100,000 a second of ours" "$(ratio 100000 "$(cat "$data/rate")")" 1 x

# PostgreSQL: the rows that we wrote, written again by COPY into a table with the same columns and index.
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
if [ -n "$bin" ]; then
    cluster="$desk/cluster"
    chmod 711 "$desk"
    mkdir "$cluster"
    as=()
    if [ "$(id -u)" = 0 ]; then
        chown postgres "$cluster"
        as=(setpriv --reuid postgres --regid postgres --init-groups)
    fi
    "${as[@]}" "$bin/initdb" -D "$cluster/data" -U bench -A trust >/dev/null
    pg_port=$(free_port)
    "${as[@]}" "$bin/postgres" -D "$cluster/data" -h 127.0.0.1 -p "$pg_port" -k "$cluster" >"$desk/postgres.log" 2>&1 </dev/null &
    started+=($!)
    for _ in $(seq 100); do
        "$bin/pg_isready" -q -h 127.0.0.1 -p "$pg_port" && break
        sleep 0.1
    done
    sql() { "$bin/psql" -qAt -h 127.0.0.1 -p "$pg_port" -U bench -d postgres "$@"; }
    head -1 "$data/000.csv" >"$desk/ten.csv"
    for day in 000 001 002 003 004; do
        [ ! -e "$data/$day.csv" ] || tail -n +2 "$data/$day.csv" >>"$desk/ten.csv"
    done
    rows=$(($(wc -l <"$desk/ten.csv") - 1))
    # In turns, and the least of each: who writes first makes PostgreSQL lay out its write-ahead log.
    pg_ours=999999999
    pg_copy=999999999
    for _ in 1 2 3; do
        sql -c "SET client_min_messages = warning; DROP SCHEMA IF EXISTS fhirctl CASCADE; CHECKPOINT"
        measured "$fhirctl" -i "$data/servers.yaml" --no-progress --history "postgres://bench@127.0.0.1:$pg_port/postgres" history import "$desk/ten.csv"
        [ "$took" -ge "$pg_ours" ] || pg_ours=$took
        sql -c "COPY (SELECT * FROM fhirctl.reading) TO STDOUT BINARY" >"$desk/rows.bin"
        sql -c "SET client_min_messages = warning; DROP TABLE IF EXISTS copied; CREATE TABLE copied (LIKE fhirctl.reading); CREATE INDEX ON copied (server, position); CHECKPOINT"
        begun=$(now_ms)
        sql -c "COPY copied FROM STDIN BINARY" <"$desk/rows.bin"
        lasted=$(($(now_ms) - begun))
        [ "$lasted" -ge "$pg_copy" ] || pg_copy=$lasted
    done
    printf 'postgres %d rows: fhirctl %d a second, COPY %d a second\n' "$rows" $((rows * 1000 / pg_ours)) $((rows * 1000 / pg_copy))
    judge "COPY's time, of ours (0.7 of its speed)" "$(ratio "$pg_ours" "$pg_copy")" 1.43 x
else
    echo "PostgreSQL is not there: apt-get install postgresql"
fi
[ "$missed" = 0 ]
