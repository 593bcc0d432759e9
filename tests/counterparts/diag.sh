#!/usr/bin/env bash
# diag on the level of FHIR against a server that others wrote. Usage: diag.sh BINARY
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "$1")
desk=$(mktemp -d)
helios=
trap '[ -z "$helios" ] || kill "$helios" 2>/dev/null || true; wait; rm -rf "$desk"' EXIT
for name in $(compgen -e); do
    [[ $name == FHIRCTL_* && $name != FHIRCTL_COUNTERPARTS ]] && unset "$name"
done
export XDG_STATE_HOME="$desk/state" NO_COLOR=1

if [ ! -x "${HFS_BINARY:-$cache/helios/bin/hfs}" ]; then
    echo "not used: Helios FHIR Server, whose binary is not in $cache/helios/bin (see helios/start.sh)"
    exit 0
fi
cd "$desk"
FHIRCTL_COUNTERPARTS=$cache "$here/helios/start.sh" >helios.json </dev/null &
helios=$!
for _ in $(seq 600); do
    [ -s helios.json ] || ! kill -0 "$helios" 2>/dev/null || sleep 0.1
done
url=$(jq -r .url helios.json)
for n in $(seq 5); do
    curl -sf -o /dev/null -X PUT -H 'Content-Type: application/fhir+json' "$url/Organization/o$n" \
        -d "{\"resourceType\":\"Organization\",\"id\":\"o$n\",\"name\":\"Planted $n\"}"
done
cat >servers.yaml <<YAML
version: 1
defaults: {thresholds: {health: {warning: 20s, critical: 25s}, metadata: {warning: 20s, critical: 25s}, search: {warning: 20s, critical: 25s}}, rate_limit: {requests_per_second: 200, burst: 200}}
servers:
  - {name: h, url: "$url", vendor: helios, checks: {search: ["Organization?_count=2"], read: [{ref: Patient/canary-1, synthetic: true}]}}
YAML

diag() { # TOPIC FLAG…: the exit code; the document stays in diag.json
    local code=0
    "$fhirctl" -q -o json diag h "$@" >diag.json 2>diag.err || code=$?
    [ -s diag.json ] || cat diag.err >&2
    echo "$code"
}
details() { # TOPIC FILTER
    jq -r --arg topic "$1" ".topics[] | select(.name == \$topic) | .details | $2" diag.json
}

expect "default topics find nothing wrong" "0" "$(diag)"
expect "query" "0" "$(diag query --probe)"
expect "query: an unknown parameter, strictly" "refused, as asked for" "$(details query .unknown_parameter)"
expect "query: pages to the end" "true" "$(details query '.paging[0].ended')"
expect "query: three pages of two" "3" "$(details query '.paging[0].pages')"
expect "query: XML when asked for" "XML" "$(details query '.negotiation[] | select(.asked == "Accept: application/fhir+xml") | .got')"
expect "query: an unchanged record is not sent again" "304, not sent again" "$(details query '.negotiation[] | select(.asked == "if-none-match") | .got')"
expect "query: no value of a record is shown" "0" "$(grep -c 'Planted\|canary-1' diag.json || true)"
code=$(diag capability --probe)
expect "capability --probe: not critical" "yes" "$([ "$code" -le 1 ] && echo yes || echo "$code")"
expect "capability: every check has its row" "23" "$(details capability '.checks | length')"
# One of its types is none of FHIR's.
expect "capability: every declared type of FHIR was searched" "true" \
    "$(details capability '([.probe.tried[] | select(.kind == "search")] | length) == .types - 1')"
expect "capability: searches work" "0" \
    "$(details capability '[.probe.tried[] | select(.kind == "search" and .result == "broken")] | length')"
expect "validate: the canary" "0" "$(diag validate --server-validate try)"
expect "validate: the server agrees" "0 true" "$(details validate '.resources[0].server | "\(.errors) \(.usable)"')"
printf '{"resourceType":"Observation","status":"Planted","nam":1}\n' >bad.json
expect "validate: a bad file" "2" "$(diag validate --resource bad.json --server-validate try)"
expect "validate: locally" "code is missing|no such element" \
    "$(details validate '[.resources[0].faults[] | select(.kind == "cardinality" or .kind == "unknown-element") | .message] | sort | join("|")')"
expect "validate: by the server" "true" "$(details validate '.resources[0].server.errors > 0')"
expect "smart: published without a token endpoint, and not needed" "0" "$(diag smart)"
conclude
