#!/usr/bin/env bash
# report.sh BINARY: history taken over from a real Prometheus, every figure of a month held against DuckDB, and
# the pages opened in Chromium. Ends with 0 only when every line says PASS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "${1:?usage: report.sh BINARY}")
for name in $(compgen -e); do
    [[ $name == FHIRCTL_* && $name != FHIRCTL_COUNTERPARTS ]] && unset "$name"
done
lock="$here/report/requirements.txt"
python="$(install_once report "$lock" python_packages "$lock")/bin/python"
desk=$(mktemp -d)
prometheus=
trap '[ -z "$prometheus" ] || kill "$prometheus" 2>/dev/null || true; wait; rm -rf "$desk"' EXIT
export XDG_CONFIG_HOME="$desk/config" XDG_STATE_HOME="$desk/state" NO_COLOR=1
cd "$desk"
cat >servers.yaml <<YAML
version: 1
servers:
  - name: ehr
    url: https://ehr.example.org/fhir
    vendor: hapi
    schedule: {every: 60s}
    sla: {availability: 99.9%, exclude: [maintenance], credits: [{below: 99.9%, credit: 5%}]}
    maintenance: [{from: 2026-03-10T22:00:00Z, until: 2026-03-11T02:00:00Z, reason: upgrade}]
  - {name: lab, url: https://lab.example.org/fhir, schedule: {every: 60s}}
YAML

# A month that another program has watched.
"$python" "$here/report/month.py" csv >month.csv
"$fhirctl" history import month.csv >/dev/null
"$fhirctl" history compact >/dev/null
"$fhirctl" history export ehr --month 2026-03 -o csv >samples.csv
expect "as many samples out as went in" "$(($(grep -c ^ehr month.csv)))" "$(($(wc -l <samples.csv) - 1))"
"$fhirctl" -o json report performance ehr --month 2026-03 >performance.json
"$fhirctl" -o json report errors ehr --month 2026-03 >errors.json
"$fhirctl" -o json report availability ehr --month 2026-03 >availability.json
"$python" "$here/report/second_opinion.py" "$desk" >opinion
while IFS=$'\t' read -r what wanted found; do
    expect "$what" "$wanted" "$found"
done <opinion

# The same from a Prometheus that has it in its own store.
"$python" "$here/report/month.py" openmetrics >month.om
promtool tsdb create-blocks-from openmetrics month.om data >/dev/null 2>&1
read -r port <<<"$(free_ports 1)"
printf 'global: {}\n' >prometheus.yml
prometheus --config.file=prometheus.yml --storage.tsdb.path=data --storage.tsdb.retention.time=100y \
    --web.listen-address="127.0.0.1:$port" >prometheus.log 2>&1 </dev/null &
prometheus=$!
for _ in $(seq 300); do
    curl -sf -o /dev/null -m 2 "http://127.0.0.1:$port/-/ready" && break
    sleep 0.1
done
"$fhirctl" -o json --history sqlite:from-prometheus.db history import --prometheus "http://127.0.0.1:$port" \
    --match 'instance="ehr"' --server ehr --step 60s --from 2026-03-02 --to 2026-03-05 >imported.json
expect "Prometheus: three days of minutes" "4320" "$(jq '.servers[0].readings' imported.json)"
down() {
    "$fhirctl" -o json "$@" report availability ehr --from 2026-03-02 --to 2026-03-05 | jq '.servers[0].totals.down_ms / 60000 | round'
}
expect "Prometheus: minutes down are those of the table" "$(down)" "$(down --history sqlite:from-prometheus.db)"

# What people open.
for kind in sla availability performance errors trends; do
    "$fhirctl" report "$kind" --month 2026-03 -o html --output-file "$kind.html"
    expect "a page: $kind" "every expectation holds" "$("$here/page.sh" "$fhirctl" "$desk/$kind.html" 2>&1 | tee "$kind.log" | tail -1)"
    grep FAIL "$kind.log" || true
done
conclude
