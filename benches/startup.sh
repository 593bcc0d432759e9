#!/usr/bin/env bash
# startup.sh BINARY [RUNS]: how long the program takes to start, against /bin/true, and to check one
# server, against curl fetching the same page. Give it a release build. Ends with 1 when a figure is
# missed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
binary=$(realpath "$1")
runs=${2:-100}
require hyperfine hyperfine
serve_page
cat >"$desk/servers.yaml" <<YAML
version: 1
servers:
  - {name: one, url: "http://127.0.0.1:$port"}
YAML

compare() { # NAME COMMAND COMMAND: the medians in milliseconds, one a line
    timeout 300 hyperfine -N --style none --warmup 10 --runs "$runs" --export-json "$desk/$1.json" "$2" "$3" \
        >/dev/null 2>"$desk/hyperfine.log" || {
        cat "$desk/hyperfine.log" >&2
        exit 1
    }
    jq '.results[].median * 1000' "$desk/$1.json"
}

{ read -r nothing; read -r version; } < <(compare start /bin/true "$binary --version")
{ read -r fetched; read -r checked; } < <(compare check "curl -q -s --fail -o /dev/null http://127.0.0.1:$port/metadata" \
    "$binary -i $desk/servers.yaml check one --only metadata --no-record -o json")
LC_ALL=C printf '%s runs each, medians: true %.2f ms, fhirctl --version %.2f ms, curl %.2f ms, fhirctl check %.2f ms\n' \
    "$runs" "$nothing" "$version" "$fetched" "$checked"
judge "fhirctl --version, of twice /bin/true and 5 ms" "$version" "$(jq -n --argjson t "$nothing" '$t * 2 + 5 | . * 100 | round / 100')" " ms"
judge "check of one server, of one curl" "$(jq -n --argjson a "$checked" --argjson b "$fetched" '$a / $b')" 1.5 x
[ "$missed" = 0 ]
