#!/usr/bin/env bash
# A migration between two servers that others wrote: equality is proven, and what is altered on
# purpose afterwards is found. Usage: migrate.sh BINARY
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "$1")
if [ ! -x "${HFS_BINARY:-$cache/helios/bin/hfs}" ]; then
    say "not used: Helios FHIR Server, whose binary is not there (see helios/start.sh)"
    conclude
    exit 0
fi
desk=$(mktemp -d)
started=()
trap 'for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$desk"' EXIT
for name in $(compgen -e); do
    [[ $name == FHIRCTL_* && $name != FHIRCTL_COUNTERPARTS ]] && unset "$name"
done
export XDG_STATE_HOME="$desk/state" NO_COLOR=1
cd "$desk"

for name in old new; do
    FHIRCTL_COUNTERPARTS=$cache "$here/helios/start.sh" >"$name.json" </dev/null &
    started+=($!)
done
for _ in $(seq 600); do
    [ -s old.json ] && [ -s new.json ] && break
    sleep 0.1
done
old=$(jq -r .url old.json)
new=$(jq -r .url new.json)
printf 'version: 1\nservers:\n' >servers.yaml
for name in old new; do
    printf '  - {name: %s, url: "%s", vendor: helios}\n' "$name" "$(jq -r .url "$name.json")" >>servers.yaml
done

put() { # URL TYPE/ID BODY
    curl -sf -o /dev/null -m 10 -X PUT -H 'Content-Type: application/fhir+json' "$1/$2" -d "$3"
}
put "$old" Organization/clinic '{"resourceType":"Organization","id":"clinic","name":"Clinic"}'
for n in $(seq 40); do
    put "$old" "Patient/p$n" "{\"resourceType\":\"Patient\",\"id\":\"p$n\",\"managingOrganization\":{\"reference\":\"Organization/clinic\"},\"name\":[{\"family\":\"Planted$n\",\"given\":[\"A\",\"B\"]}]}"
    put "$old" "Observation/o$n" "{\"resourceType\":\"Observation\",\"id\":\"o$n\",\"status\":\"final\",\"code\":{\"text\":\"weight\"},\"subject\":{\"reference\":\"Patient/p$n\"},\"valueQuantity\":{\"value\":71.50,\"unit\":\"kg\"}}"
done

# Its search parameters, which it has as resources, take it minutes to write.
migrate() { # FLAGS…: exit code and status
    local code=0
    "$fhirctl" -q --yes -o json migrate old new --output-dir moved --poll-ceiling 1s --level system --type Organization,Patient,Observation --sample all "$@" \
        >migrate.out 2>migrate.err || code=$?
    echo "$code $(jq -r .status migrate.out 2>/dev/null || head -c 300 migrate.err)"
}

expect "two Helios: proven" "0 proven" "$(migrate)"
expect "counts on both sides" "41 41 41" "$(jq -r '.types[] | select(.type == "Patient") | "\(.source) \(.exported) \(.target)"' migrate.out)"
expect "all were compared" "$(jq .export.resources migrate.out)" "$(jq .sample.equal migrate.out)"
expect "references lead somewhere" "41 0" "$(jq -r '.references | "\(.resolved) \(.unresolved)"' migrate.out)"
expect "a decimal as it was written" "71.50" "$(curl -sf "$new/Observation/o7" | grep -o '71\.50*' | head -1)"
expect "a second run writes nothing" "0 proven" "$(migrate)"

put "$new" Patient/p7 '{"resourceType":"Patient","id":"p7","managingOrganization":{"reference":"Organization/clinic"},"name":[{"family":"Altered","given":["A","B"]}]}'
expect "a resource altered on purpose is found" "65 differs" "$(migrate)"
expect "with its place" "Patient.name.family changed 1" "$(jq -r '.differences[] | "\(.path) \(.kind) \(.resources)"' migrate.out)"
expect "by name in the report" "p7 Patient.name[0].family" "$(jq -r '.resources[] | "\(.id) \(.differences[0].path)"' moved/migration.json)"
expect "no value stands anywhere" "0" "$(cat migrate.out moved/migration.json moved/migration.md | grep -cE 'Planted|Altered' || true)"
curl -sf -o /dev/null -m 10 -X DELETE "$new/Observation/o9"
expect "one that was deleted is found" "65 differs" "$(migrate)"
expect "as missing" "bulk.content_differs bulk.count_differs bulk.resource_missing" \
    "$(jq -r '[.findings[] | select(.severity == "error") | .code] | sort | unique | join(" ")' migrate.out)"
expect "written once more" "0 proven" "$(migrate --again)"
conclude
