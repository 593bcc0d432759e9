#!/usr/bin/env bash
# fleet.sh BINARY [SERVERS] [ROUNDS]: a check of 10,000 servers against blackbox_exporter and curl, in
# one run on the same targets. Each server is an origin of its own (an address of 127/8), each answers
# /metadata with a CapabilityStatement of 90 KB. fhirctl parses and judges it; the others only fetch.
# Give it a release build. Ends with 1 when a figure is missed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
binary=$(realpath "$1")
servers=${2:-10000}
rounds=${3:-3}
concurrency=64
require prometheus-blackbox-exporter prometheus-blackbox-exporter
ulimit -n 20000
serve_page

python3 - "$servers" "$port" "$desk" <<'PYTHON'
import sys
servers, port, desk = int(sys.argv[1]), sys.argv[2], sys.argv[3]
hosts = [f"127.{1 + n // 62500}.{n // 250 % 250}.{1 + n % 250}" for n in range(servers)]
assert len(set(hosts)) == servers
with open(f"{desk}/servers.yaml", "w") as file:
    file.write("version: 1\nservers:\n")
    file.writelines(f"  - {{name: s{n}, url: 'http://{host}:{port}'}}\n" for n, host in enumerate(hosts))
with open(f"{desk}/curl.conf", "w") as file:
    file.writelines(f'url = "http://{host}:{port}/metadata"\noutput = "/dev/null"\n' for host in hosts)
with open(f"{desk}/probes", "w") as file:
    file.writelines(f"http://{host}:{port}/metadata\n" for host in hosts)
PYTHON

blackbox_port=$(free_port)
cat >"$desk/blackbox.yml" <<'YAML'
modules:
  page: {prober: http, timeout: 30s, http: {method: GET, preferred_ip_protocol: ip4}}
YAML
prometheus-blackbox-exporter --config.file="$desk/blackbox.yml" --web.listen-address="127.0.0.1:$blackbox_port" \
    --log.level=error </dev/null &
blackbox=$!
started+=("$blackbox")
sed "s|.*|url = \"http://127.0.0.1:$blackbox_port/probe?module=page\&target=&\"|" "$desk/probes" >"$desk/blackbox.conf"
for _ in $(seq 100); do
    curl -sf -o /dev/null -m 2 "http://127.0.0.1:$blackbox_port/metrics" && break
    sleep 0.1
done

ticks=$(getconf CLK_TCK)
cpu_of() { # PID: user and system time in ticks
    # The name in parentheses may hold spaces.
    sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

run() { # NAME COMMAND…
    local name=$1
    shift
    timeout 600 python3 "$bench/measure.py" "$desk/$name.$round.json" "$@"
}

for round in $(seq "$rounds"); do
    run curl curl -q -s --no-progress-meter --fail --parallel --parallel-max "$concurrency" --config "$desk/curl.conf"
    before=$(cpu_of "$blackbox")
    # Through a file: the pages about the probes are to be counted, not the one who counts.
    timeout 600 curl -q -s --no-progress-meter --parallel --parallel-max "$concurrency" --config "$desk/blackbox.conf" >"$desk/probed"
    after=$(cpu_of "$blackbox")
    [ "$(grep -c '^probe_success 1' "$desk/probed")" = "$servers" ] || { echo "blackbox_exporter missed some" >&2; exit 1; }
    jq -n --argjson ticks "$((after - before))" --argjson hertz "$ticks" '{cpu: ($ticks / $hertz)}' \
        >"$desk/blackbox.$round.json"
    OUT="$desk/out.json" run fhirctl sh -c 'exec "$0" "$@" >"$OUT"' "$binary" -i "$desk/servers.yaml" check --only metadata --no-record \
        --concurrency "$concurrency" -o json --no-progress
    [ "$(jq .summary.healthy "$desk/out.json")" = "$servers" ] || {
        echo "fhirctl did not find all healthy:" >&2
        jq -c '.summary, first(.servers[] | select(.status != "healthy") | {code, message})' "$desk/out.json" >&2
        exit 1
    }
done

best() { # NAME FIELD: the least of the rounds
    jq -s "map(.$2) | min" "$desk/$1".*.json
}
worst() {
    jq -s "map(.$2) | max" "$desk/$1".*.json
}
per_server() { # SECONDS: in milliseconds
    jq -n --argjson s "$1" --argjson n "$servers" '$s * 1000 / $n * 1000 | round / 1000'
}
ratio() {
    jq -n --argjson a "$1" --argjson b "$2" '$a / $b'
}

printf '%s servers, %s at once, the best of %s rounds, %s cores\n' "$servers" "$concurrency" "$rounds" "$(nproc)"
printf '  %-20s %8s ms of CPU, %8s ms of wall per server, peak %s MB\n' \
    fhirctl "$(per_server "$(best fhirctl cpu)")" "$(per_server "$(best fhirctl wall)")" \
    "$(jq -n --argjson b "$(worst fhirctl rss)" '$b / 1000000 | round')"
printf '  %-20s %8s ms of CPU, %8s ms of wall per server\n' \
    'curl --parallel' "$(per_server "$(best curl cpu)")" "$(per_server "$(best curl wall)")"
printf '  %-20s %8s ms of CPU per server\n' blackbox_exporter "$(per_server "$(best blackbox cpu)")"
judge "CPU per server, of blackbox_exporter's" "$(ratio "$(best fhirctl cpu)" "$(best blackbox cpu)")" 0.5 x
judge "wall time, of curl --parallel's" "$(ratio "$(best fhirctl wall)" "$(best curl wall)")" 1 x
judge "peak memory" "$(ratio "$(worst fhirctl rss)" 1000000)" 200 " MB"
[ "$missed" = 0 ]
