#!/usr/bin/env bash
# bulk.sh BINARY [MEGABYTES] [ROUNDS]: bulk export against curl --parallel and smart-fetch, in one run
# from the same server and files: eight large files and 20,000 tiny ones; 10 GB made while they are sent;
# and bulk import against a client that sends one resource after the other. fhirctl parses every line, counts, hashes, syncs and writes a receipt; curl only writes.
# Give it a release build, and SMART_FETCH=PROGRAM to have the peer measured (pip install smart-fetch).
# Ends with 1 when a figure is missed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
binary=$(realpath "$1")
megabytes=${2:-512}
rounds=${3:-3}
huge=${HUGE:-10GB}
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
        [ "$(find "$desk/by-smart-fetch/"001.* -name '*.ndjson.gz' -exec zcat {} + | wc -l)" = "$(jq '[.output[].count] | add' "$desk/large/manifest")" ] ||
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

# A server whose data are made while they are sent; sets `url`.
serve_sandbox() { # FLAG…
    rm -f "$desk/sandbox.out"
    "$binary" sandbox -o json "$@" >"$desk/sandbox.out" 2>"$desk/sandbox.err" &
    sandbox=$!
    started+=("$sandbox")
    for _ in $(seq 100); do
        url=$(grep -o 'http://[0-9.:]*/fhir' "$desk/sandbox.out" 2>/dev/null | head -n 1) && break
        sleep 0.1
    done
    [ -n "$url" ] || { cat "$desk/sandbox.err" >&2; exit 1; }
}

# More than any memory holds.
round=1
serve_sandbox --bulk "bytes=$huge" --bulk files=8 --bulk retry_after=0
printf 'version: 1\nservers:\n  - {name: s, url: "%s"}\n' "$url" >"$desk/servers.yaml"
export_of huge "$desk/by-fhirctl" --level system
received=$(find "$desk/by-fhirctl" -name '*.ndjson' -printf '%s\n' | awk '{ all += $1 } END { printf "%.0f\n", all }')
rm -rf "$desk/by-fhirctl"
kill "$sandbox"

# In again, against one who sends a resource, waits, and sends the next over the same connection.
resources=20000
python3 "$bench/ndjson.py" "$desk/import" $((resources * 890)) 4
resources=$(cat "$desk/import/files/"* | wc -l)
python3 - "$desk" <<'PYTHON'
import json, pathlib, sys
desk = pathlib.Path(sys.argv[1])
(desk / "single").mkdir()
with open(desk / "put.template", "w") as config:
    for file in sorted((desk / "import/files").iterdir()):
        for number, line in enumerate(file.read_text().splitlines()):
            path = desk / "single" / f"{file.stem}.{number}.json"
            path.write_text(line)
            config.write(f'upload-file = "{path}"\nurl = "URL/Observation/{json.loads(line)["id"]}"\noutput = "/dev/null"\n')
PYTHON
there() { # how many Observations the server has
    curl -q -s "$url/Observation?_summary=count" | jq .total
}
serve_sandbox
before=$(there)
sed "s|URL|$url|" "$desk/put.template" >"$desk/put.conf"
run curl_put curl -q -s --no-progress-meter --fail -H 'Content-Type: application/fhir+json' --config "$desk/put.conf"
[ "$(($(there) - before))" = "$resources" ] || { echo "the sequential client has lost some" >&2; exit 1; }
kill "$sandbox"
serve_sandbox
before=$(there)
printf 'version: 1\nservers:\n  - {name: s, url: "%s"}\n' "$url" >"$desk/servers.yaml"
run import "$binary" -i "$desk/servers.yaml" --yes bulk-import s "$desk/import/files" --family bundle --no-progress >"$desk/import.out"
[ "$(($(there) - before))" = "$resources" ] || { echo "fhirctl has lost some" >&2; exit 1; }
kill "$sandbox"

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
printf '%s made while they are sent\n' "$huge"
show huge "fhirctl, $((received / 1000000)) MB"
judge "peak memory" "$(ratio "$(worst huge rss)" 1000000)" 64 " MB"
printf '%s resources imported\n' "$resources"
show curl_put 'curl, one after the other'
show import 'fhirctl, bundles'
judge "wall time, of the sequential client's" "$(ratio "$(best import wall)" "$(best curl_put wall)")" 0.334 x
[ "$missed" = 0 ]
