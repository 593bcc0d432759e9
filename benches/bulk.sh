#!/usr/bin/env bash
# bulk.sh BINARY [MEGABYTES] [ROUNDS]: bulk export against curl --parallel and smart-fetch, in one run
# from the same server and files: eight large files, 20,000 tiny ones, and 10 GB made while they are
# sent. fhirctl parses every line, counts, hashes, syncs and writes a receipt; curl only writes.
# Give it a release build, and SMART_FETCH=PROGRAM to have the peer measured (pip install smart-fetch).
# Ends with 1 when a figure is missed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
binary=$(realpath "$1")
megabytes=${2:-512}
rounds=${3:-3}
large=${LARGE:-10GB}
smart_fetch=${SMART_FETCH:-}
require nginx nginx-light
require jq jq
require curl curl
ulimit -n 20000

# A server whose job is done when it is asked for: nothing but files, headers and a manifest.
serve_export() { # FOLDER
    port=$(free_port)
    sed -i "s|BASE|http://127.0.0.1:$port/fhir|g" "$1/manifest"
    cat >"$1/nginx.conf" <<CONF
daemon off;
pid $1/nginx.pid;
error_log $1/nginx.log crit;
worker_processes 1;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000;
  client_body_temp_path $1/body;
  proxy_temp_path $1/proxy;
  fastcgi_temp_path $1/fastcgi;
  uwsgi_temp_path $1/uwsgi;
  scgi_temp_path $1/scgi;
  server {
    listen 127.0.0.1:$port backlog=1024;
    location = /fhir/metadata { default_type application/fhir+json; alias $1/metadata; }
    location = /fhir/\$export { add_header Content-Location http://127.0.0.1:$port/fhir/job always; return 202; }
    location = /fhir/Patient/\$export { add_header Content-Location http://127.0.0.1:$port/fhir/job always; return 202; }
    location = /fhir/job {
      default_type application/json;
      if (\$request_method = DELETE) { return 202; }
      alias $1/manifest;
    }
    location /fhir/files/ { default_type application/fhir+ndjson; alias $1/files/; }
  }
}
CONF
    chmod a+x "$desk"
    chmod -R a+rX "$1"
    nginx -p "$1" -e "$1/nginx.log" -c "$1/nginx.conf" </dev/null &
    started+=($!)
    for _ in $(seq 100); do
        curl -sf -o /dev/null -m 2 "http://127.0.0.1:$port/fhir/metadata" && return
        sleep 0.1
    done
    cat "$1/nginx.log" >&2
    exit 1
}

run() { # NAME COMMAND…
    local name=$1
    shift
    sync
    timeout 1800 python3 "$bench/measure.py" "$desk/$name.$round.json" "$@"
    [ "$(jq .code "$desk/$name.$round.json")" = 0 ] || { echo "$name failed" >&2; exit 1; }
}

export_of() { # NAME OUT [FLAG…]
    local name=$1 out=$2
    shift 2
    run "$name" "$binary" -i "$desk/servers.yaml" bulk-export s --output-dir "$out" --poll-floor 10ms \
        --no-progress "$@" >"$desk/$name.out"
}

best() { # NAME FIELD
    jq -s "map(.$2) | min" "$desk/$1".*.json
}
worst() {
    jq -s "map(.$2) | max" "$desk/$1".*.json
}
ratio() {
    jq -n --argjson a "$1" --argjson b "$2" '$a / $b * 1000 | round / 1000'
}
show() { # NAME TITLE
    printf '  %-34s %7.2f s of CPU, %7.2f s of wall, peak %4.0f MB\n' "$2" "$(best "$1" cpu)" "$(best "$1" wall)" \
        "$(jq -n --argjson b "$(worst "$1" rss)" '$b / 1000000')"
}

curl_all() { # NAME FOLDER OUT
    jq -r --arg out "$3" '.output[].url | "url = \"\(.)\"\noutput = \"\($out)/\(split("/") | last)\""' "$2/manifest" \
        >"$desk/curl.conf"
    mkdir -p "$3"
    run "$1" curl -q -s --no-progress-meter --fail --parallel --parallel-max 4 --config "$desk/curl.conf"
}

point_at() { # PORT
    printf 'version: 1\nservers:\n  - {name: s, url: "http://127.0.0.1:%s/fhir"}\n' "$1" >"$desk/servers.yaml"
}

# Eight large files.
python3 "$bench/ndjson.py" "$desk/large" $((megabytes * 1000000)) 8
serve_export "$desk/large"
point_at "$port"
for round in $(seq "$rounds"); do
    curl_all curl "$desk/large" "$desk/by-curl"
    export_of fhirctl "$desk/by-fhirctl"
    # The same bytes, or the figures are worth nothing.
    [ "$(cat "$desk/by-curl/"* | sha256sum)" = "$(cat "$desk/by-fhirctl/"Observation.*.ndjson | sha256sum)" ]
    rm -rf "$desk/by-curl" "$desk/by-fhirctl"
    if [ -n "$smart_fetch" ] && [ "$round" = 1 ]; then
        run smart_fetch "$smart_fetch" export --export-mode bulk --fhir-url "http://127.0.0.1:$port/fhir" \
            --type Observation --hydration-tasks none --no-default-filters "$desk/by-smart-fetch" \
            >"$desk/smart-fetch.log" 2>&1
        [ "$(find "$desk/by-smart-fetch" -name '*.ndjson.gz' -exec zcat {} + | wc -l)" = "$(jq '[.output[].count] | add' "$desk/large/manifest")" ] ||
            { echo "smart-fetch did not fetch everything" >&2; exit 1; }
        export_of fhirctl_gzip "$desk/by-fhirctl" --compress gzip
        rm -rf "$desk/by-fhirctl" "$desk/by-smart-fetch"
    fi
done

# Many tiny ones.
tiny=20000
python3 "$bench/ndjson.py" "$desk/tiny" $((tiny * 1100)) "$tiny"
serve_export "$desk/tiny"
point_at "$port"
for round in $(seq "$rounds"); do
    curl_all curl_tiny "$desk/tiny" "$desk/by-curl"
    export_of fhirctl_tiny "$desk/by-fhirctl"
    [ "$(find "$desk/by-fhirctl" -name 'Observation.*.ndjson' | wc -l)" = "$tiny" ]
    rm -rf "$desk/by-curl" "$desk/by-fhirctl"
done

# More than fits anywhere, made while it is sent.
round=1
"$binary" sandbox --bulk "bytes=$large" --bulk files=8 --bulk requires_access_token=false --json >"$desk/sandbox.out" 2>/dev/null &
started+=($!)
for _ in $(seq 100); do
    grep -q http "$desk/sandbox.out" && break
    sleep 0.1
done

printf '%s MB in 8 files, the best of %s rounds, %s cores\n' "$megabytes" "$rounds" "$(nproc)"
show curl 'curl --parallel, writes only'
show fhirctl 'fhirctl, every check on'
judge "wall time, of curl --parallel's" "$(ratio "$(best fhirctl wall)" "$(best curl wall)")" 1.25 x
judge "peak memory" "$(ratio "$(worst fhirctl rss)" 1000000)" 64 " MB"
if [ -n "$smart_fetch" ]; then
    show smart_fetch 'smart-fetch, gzip'
    show fhirctl_gzip 'fhirctl --compress gzip'
    judge "CPU with gzip, of smart-fetch's" "$(ratio "$(best fhirctl_gzip cpu)" "$(best smart_fetch cpu)")" 0.2 x
fi
printf '%s files of 1 KB\n' "$tiny"
show curl_tiny 'curl --parallel, writes only'
show fhirctl_tiny 'fhirctl, every check on'
[ "$missed" = 0 ]
