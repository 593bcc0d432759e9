#!/usr/bin/env bash
# load.sh BINARY [SECONDS] [ROUNDS]: the load generator against wrk and oha, in one run from the same nginx and
# the same small page, 32 connections each: requests a CPU second, and whether the percentiles agree.
# Give it a release build. OHA=PROGRAM, else `oha/bin/oha` in the cache folder
# (cargo install --locked oha --root CACHE/oha); without one only wrk is compared.
# Ends with 1 when a figure is missed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
binary=$(realpath "$1")
seconds=${2:-5}
rounds=${3:-3}
connections=32
oha=${OHA:-${XDG_CACHE_HOME:-$HOME/.cache}/fhirctl-counterparts/oha/bin/oha}
require nginx nginx-light
require jq jq
require wrk wrk

mkdir -p "$desk/www"
printf '{"resourceType":"Patient","id":"bench","active":true,"name":[{"family":"Bench"}]}' >"$desk/www/metadata"
port=$(free_port)
cat >"$desk/nginx.conf" <<CONF
daemon off;
pid $desk/nginx.pid;
error_log $desk/nginx.log crit;
worker_processes 1;
events { worker_connections 1024; }
http {
  access_log off;
  open_file_cache max=16;
  keepalive_requests 1000000000;
  client_body_temp_path $desk/body;
  proxy_temp_path $desk/proxy;
  fastcgi_temp_path $desk/fastcgi;
  uwsgi_temp_path $desk/uwsgi;
  scgi_temp_path $desk/scgi;
  server {
    listen 127.0.0.1:$port backlog=1024;
    default_type application/fhir+json;
    root $desk/www;
  }
}
CONF
chmod -R a+rX "$desk"
nginx -p "$desk" -e "$desk/nginx.log" -c "$desk/nginx.conf" </dev/null &
started+=($!)
url="http://127.0.0.1:$port/metadata"
for _ in $(seq 100); do
    curl -sf -o /dev/null -m 2 "$url" && break
    sleep 0.1
done
# The same address for all three, and nothing else: the base URL is the root.
printf 'version: 1\nservers:\n  - {name: s, url: "http://127.0.0.1:%s"}\n' "$port" >"$desk/servers.yaml"
printf -- '- {path: metadata}\n' >"$desk/mix.yaml"

measured() { # NAME COMMAND…: the command's own output goes to NAME.ROUND.out
    local name=$1
    shift
    timeout 300 python3 "$bench/measure.py" "$desk/$name.$round.json" "$@" >"$desk/$name.$round.out" 2>"$desk/$name.$round.err" || {
        cat "$desk/$name.$round.err" >&2
        exit 1
    }
}
# Adds requests, p50 and p99 in milliseconds to what was measured.
note() { # NAME REQUESTS P50 P99
    jq --argjson requests "$2" --argjson p50 "$3" --argjson p99 "$4" \
        '. + {requests: $requests, p50: $p50, p99: $p99, per_cpu: ($requests / .cpu)}' \
        "$desk/$1.$round.json" >"$desk/noted" && mv "$desk/noted" "$desk/$1.$round.json"
}
millis() { # what wrk writes: 1.23ms, 456.00us, 1.20s
    awk -v t="$1" 'BEGIN { n = t + 0; if (t ~ /us$/) n /= 1000; else if (t !~ /ms$/) n *= 1000; print n }'
}

for round in $(seq "$rounds"); do
    measured wrk wrk -t1 -c"$connections" -d"${seconds}s" --latency -H 'Accept: application/fhir+json' "$url"
    out=$desk/wrk.$round.out
    note wrk "$(awk '/requests in/ { print $1 }' "$out")" \
        "$(millis "$(awk '$1 == "50%" { print $2 }' "$out")")" "$(millis "$(awk '$1 == "99%" { print $2 }' "$out")")"
    if [ -x "$oha" ]; then
        measured oha "$oha" -c "$connections" -z "${seconds}s" --no-tui --output-format json -H 'Accept: application/fhir+json' "$url"
        out=$desk/oha.$round.out
        note oha "$(jq '[.statusCodeDistribution[]] | add' "$out")" \
            "$(jq '.latencyPercentiles.p50 * 1000' "$out")" "$(jq '.latencyPercentiles.p99 * 1000' "$out")"
    fi
    measured fhirctl "$binary" -i "$desk/servers.yaml" -o json --no-progress diag s load --connections "$connections" \
        --duration "${seconds}s" --mix "$desk/mix.yaml"
    out=$desk/fhirctl.$round.out
    [ "$(jq '.topics[0].details.failures' "$out")" = 0 ] || { jq .verdict "$out" >&2; exit 1; }
    note fhirctl "$(jq '.topics[0].details.requests' "$out")" \
        "$(jq '.topics[0].details.latency.p50' "$out")" "$(jq '.topics[0].details.latency.p99' "$out")"
done

middle() { # NAME FIELD
    jq -s "map(.$2) | sort | .[length / 2 | floor]" "$desk/$1".*.json
}
ratio() {
    jq -n --argjson a "$1" --argjson b "$2" '$a / $b * 1000 | round / 1000'
}
show() { # NAME
    printf '  %-8s %8.0f requests a CPU second, %8.0f requests a second, p50 %6.3f ms, p99 %6.3f ms, peak %3.0f MB\n' "$1" \
        "$(middle "$1" per_cpu)" "$(jq -n --argjson r "$(middle "$1" requests)" --argjson s "$seconds" '$r / $s')" \
        "$(middle "$1" p50)" "$(middle "$1" p99)" "$(jq -n --argjson b "$(middle "$1" rss)" '$b / 1000000')"
}
# A generator that needs less of the machine leaves more of it to the server: at full tilt the peers' own
# percentiles are this far apart, and ours have to lie within the same distance of one of them.
peers() { # FIELD LEAST: how far the peers are apart, as a factor; not less than LEAST
    local all="[$(middle wrk "$1")"
    [ ! -x "$oha" ] || all="$all,$(middle oha "$1")"
    jq -n --argjson peers "$all]" --argjson least "$2" \
        '[($peers | max / min), $least] | max * 100 | round / 100'
}
spread() { # FIELD: the distance to the nearest peer, as a factor
    local all="[$(middle wrk "$1")"
    [ ! -x "$oha" ] || all="$all,$(middle oha "$1")"
    jq -n --argjson peers "$all]" --argjson ours "$(middle fhirctl "$1")" \
        '$peers | map(if . > $ours then . / $ours else $ours / . end) | min * 1000 | round / 1000'
}

printf '%s connections, %s s, the middle of %s rounds, %s cores\n' "$connections" "$seconds" "$rounds" "$(nproc)"
show wrk
[ -x "$oha" ] && show oha || echo "  oha is not there: cargo install --locked oha --root ${oha%/bin/oha}"
show fhirctl
# Written so that too few requests are a miss: the peer's share of ours has to stay below the limit.
judge "wrk's requests a CPU second, of fhirctl's" "$(ratio "$(middle wrk per_cpu)" "$(middle fhirctl per_cpu)")" 2 x
if [ -x "$oha" ]; then
    judge "oha's requests a CPU second, of fhirctl's" "$(ratio "$(middle oha per_cpu)" "$(middle fhirctl per_cpu)")" 1 x
fi
judge "p50, away from the nearest peer's" "$(spread p50)" "$(peers p50 1.5)" x
judge "p99, away from the nearest peer's" "$(spread p99)" "$(peers p99 2)" x
[ "$missed" = 0 ]
