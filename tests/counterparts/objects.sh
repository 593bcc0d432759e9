#!/usr/bin/env bash
# Bulk exports to an object store: S3 as moto plays it, looked at by boto3. Usage: objects.sh BINARY
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "${1:?usage: objects.sh BINARY}")
lock="$here/objects/requirements.txt"
python="$(install_once objects "$lock" python_packages "$lock")/bin/python"
desk=$(mktemp -d)
started=()
trap 'for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$desk"' EXIT
trap 'exit 130' INT TERM
for name in $(compgen -e); do
    case $name in
    FHIRCTL_COUNTERPARTS) ;;
    FHIRCTL_* | AWS_*) unset "$name" ;;
    esac
done
umask 077
export XDG_STATE_HOME="$desk/state" HOME="$desk" NO_COLOR=1
cd "$desk"

read -r port closed <<<"$(free_ports 2)"
"$python" -m moto.server -H 127.0.0.1 -p "$port" >moto.log 2>&1 &
started+=($!)
export AWS_ENDPOINT_URL="http://127.0.0.1:$port" AWS_REGION=us-east-1
export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE AWS_SECRET_ACCESS_KEY=planted-secret-key
for _ in $(seq 300); do
    curl -sf -o /dev/null "$AWS_ENDPOINT_URL/moto-api/" && break
    sleep 0.1
done
s3() {
    "$python" "$here/objects/s3.py" "$@"
}
s3 make bucket

export_to() { # DIR FLAGS…: the exit code
    local dir=$1 code=0
    shift
    "$fhirctl" -o json bulk-export "${server:-a}" --level system --output-dir "$dir" --poll-floor 10ms "$@" \
        >export.json 2>export.err || code=$?
    cat export.json export.err >>all-output
    echo "$code"
}
verified() { # ADDRESS: the exit code of verify
    local code=0
    "$fhirctl" -o json bulk-export verify "$1" >verify.json 2>verify.err || code=$?
    cat verify.json verify.err >>all-output
    echo "$code"
}
sums() { # DIR: of the data in it
    (cd "$1" && find . -name '*.ndjson*' ! -name log.ndjson -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
}
fetched() { # PREFIX: of the data below it in the bucket
    rm -rf fetched
    s3 fetch bucket "$1/" fetched
    sums fetched
}

# From the sandbox, stored plainly and packed.
"$fhirctl" -o json sandbox --bulk wait=0s --bulk retry_after=0 --bulk bytes=2MB --bulk files=5 >sandbox.json &
started+=($!)
for _ in $(seq 200); do
    [ -s sandbox.json ] || sleep 0.05
done

# Larger files, from a server that costs nothing: these go in parts.
mkdir source
"$python" - <<'PY'
import json
for name, count in [("Patient", 40), ("Observation", 60000), ("Encounter", 45000), ("Condition", 15000)]:
    with open(f"source/{name}.ndjson", "w") as out:
        for number in range(count):
            line = {"resourceType": name, "id": f"{name.lower()}-{number}", "text": {"div": f"{number * 7919:0200}"}}
            out.write(json.dumps(line) + "\n")
PY
"$python" "$here/objects/bulk_server.py" source >bulk.json 2>bulk.log &
started+=($!)
for _ in $(seq 200); do
    [ -s bulk.json ] || sleep 0.05
done
cat >servers.yaml <<YAML
version: 1
defaults: {timeouts: {connect: 5s, read: 300s, total: 300s}}
servers:
  - {name: a, url: "$(jq -r .url sandbox.json)"}
  - {name: b, url: "http://127.0.0.1:$(jq -r .port bulk.json)"}
YAML

for how in none gzip zstd; do
    expect "to a folder, $how" 0 "$(export_to "folder-$how" --compress "$how")"
    expect "to S3, $how" 0 "$(export_to "s3://bucket/sandbox/$how" --compress "$how")"
    expect "the same bytes" "$(sums "folder-$how")" "$(fetched "sandbox/$how")"
    expect "it verifies" 0 "$(verified "s3://bucket/sandbox/$how")"
done
expect "once more: nothing is fetched" "0 true" \
    "$(export_to s3://bucket/sandbox/none) $(jq .was_done export.json)"
expect "status by the address" "complete" \
    "$("$fhirctl" -o json bulk-export status s3://bucket/sandbox/none | jq -r '.exports[0].phase')"
expect "resume by the address" "true" \
    "$("$fhirctl" -o json bulk-export resume s3://bucket/sandbox/none 2>>all-output | jq .was_done)"

server=b
expect "large files to a folder" 0 "$(export_to whole)"
began=$(date +%s%N)
expect "large files to S3" 0 "$(export_to s3://bucket/whole)"
took=$((($(date +%s%N) - began) / 1000000))
expect "the same bytes" "$(sums whole)" "$(fetched whole)"
expect "two went in parts, which the store checked by SHA-256" 2 "$(s3 checksummed bucket whole/)"
expect "nothing waits here any more" "log.ndjson receipt.json" \
    "$(ls "$XDG_STATE_HOME"/fhirctl/exports/"$(jq -r .export_id export.json)"/staging | grep -v '^error$\|^deleted$' | xargs)"
expect "it verifies" 0 "$(verified s3://bucket/whole)"
s3 flip bucket whole/Observation.001.ndjson
expect "a flipped byte is found" "65 Observation.001.ndjson" \
    "$(verified s3://bucket/whole) $(jq -r '.problems[0].file' verify.json)"
s3 put bucket whole/Basic.001.ndjson
expect "and one that is not of it" "65 true" \
    "$(verified s3://bucket/whole) $(jq '[.problems[].file] | contains(["Basic.001.ndjson"])' verify.json)"

# Killed at twenty random instants, wherever they fall.
killed=0
round=0
while [ "$killed" -lt 20 ]; do
    "$fhirctl" -q bulk-export b --level system --output-dir "s3://bucket/killed-$round" --poll-floor 10ms \
        >/dev/null 2>>all-output &
    pid=$!
    sleep "$(awk -v ms="$took" -v seed="$RANDOM" 'BEGIN { srand(seed); print rand() * ms / 1000 }')"
    if kill -9 "$pid" 2>/dev/null; then
        killed=$((killed + 1))
    fi
    code=0
    wait "$pid" 2>/dev/null || code=$?
    if [ "$code" = 0 ]; then
        round=$((round + 1))
    elif [ "$code" != 137 ]; then
        expect "a run that nobody killed" 0 "$code"
        break
    fi
done
expect "the last one, after the kills" 0 "$(export_to "s3://bucket/killed-$round")"
for number in $(seq 0 "$round"); do
    expect "killed, resumed, the same bytes ($number)" "$(sums whole)" "$(fetched "killed-$number")"
    expect "it verifies" 0 "$(verified "s3://bucket/killed-$number")"
done
expect "no upload is left unfinished" 0 "$(s3 unfinished bucket)"

# Killed while parts are on their way, then a store that is down.
# A quick machine is done between the look and the kill: then the next export is caught.
for number in $(seq 50); do
    down=s3://bucket/down-$number
    s3 await-upload bucket &
    waiting=$!
    sleep 1
    "$fhirctl" -q bulk-export b --level system --output-dir "$down" --poll-floor 10ms >/dev/null 2>>all-output &
    pid=$!
    wait "$waiting" || true
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    [ "$(s3 unfinished bucket)" = 0 ] || break
done
expect "killed with parts on their way" true "$([ "$(s3 unfinished bucket)" -gt 0 ] && echo true)"
up=$AWS_ENDPOINT_URL
export AWS_ENDPOINT_URL="http://127.0.0.1:$closed"
expect "a store that is down" "75 true" \
    "$(export_to "$down") $(jq -Rs 'contains("bulk.store_failed")' export.err)"
export AWS_ENDPOINT_URL=$up
expect "and up again" 0 "$(export_to "$down")"
expect "the same bytes" "$(sums whole)" "$(fetched "down-$number")"
expect "no upload is left unfinished" 0 "$(s3 unfinished bucket)"

# A place that is kept current, and a folder beside it.
"$fhirctl" -o json sandbox --patients 20 --bulk wait=0s --bulk retry_after=0 >living.json &
started+=($!)
for _ in $(seq 200); do
    [ -s living.json ] || sleep 0.05
done
living=$(jq -r .url living.json)
printf '  - {name: c, url: "%s"}\n' "$living" >>servers.yaml
synced() { # ADDRESS FLAGS…: exit code and kind
    local code=0 place=$1
    shift
    "$fhirctl" -o json sync c --level system --output-dir "$place" --poll-floor 10ms "$@" >sync.json 2>sync.err || code=$?
    cat sync.json sync.err >>all-output
    echo "$code $(jq -r .kind sync.json)"
}
state_of() { # what current.json names, by type
    rm -rf state-of
    s3 fetch bucket kept/ state-of
    jq -r '.files[] | "\(.type) \(.name)"' state-of/current.json | while read -r type name; do
        printf '%s ' "$type"
        sha256sum <"state-of/$name"
    done
}
state_here() {
    for file in kept/current/*.ndjson; do
        printf '%s ' "$(basename "$file" .ndjson)"
        sha256sum <"$file"
    done
}
expect "a first sync" "0 full" "$(synced s3://bucket/kept)"
expect "and one to a folder" "0 full" "$(synced kept)"
expect "hold the same" "$(state_here | sha256sum)" "$(state_of | sha256sum)"
sleep 1.1
changed=$(head -1 kept/current/Patient.ndjson | jq -r .id)
gone=$(sed -n 2p kept/current/Patient.ndjson | jq -r .id)
curl -sf -o /dev/null -X PUT -H 'Content-Type: application/fhir+json' "$living/Patient/$changed" \
    -d "{\"resourceType\":\"Patient\",\"id\":\"$changed\",\"active\":false}"
curl -sf -o /dev/null -X DELETE "$living/Patient/$gone"
untouched=$(jq -r '[.files[] | select(.type != "Patient")][0].name' state-of/current.json)
# Killed on its way, and gone on with.
for wait in 0.05 0.15 0.3 0.5; do
    "$fhirctl" -q sync c --level system --output-dir s3://bucket/kept --poll-floor 10ms >/dev/null 2>>all-output &
    pid=$!
    sleep "$wait"
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    state_of >reader || true
    readers=$((${readers:-0} + $(jq -s length <state-of/current.json)))
done
expect "a reader always finds a state" 4 "$readers"
expect "the changes" 0 "$(synced s3://bucket/kept | cut -d' ' -f1)"
expect "and in the folder" "0 incremental" "$(synced kept)"
expect "hold the same" "$(state_here | sha256sum)" "$(state_of | sha256sum)"
expect "a type without changes keeps its object" true \
    "$(jq --arg name "$untouched" '[.files[].name] | contains([$name])' state-of/current.json)"
expect "a full one again" "0 full" "$(synced s3://bucket/kept --full)"
expect "holds as many" "$(cat kept/current/*.ndjson | wc -l)" "$(jq '[.files[].count] | add' <(state_of >/dev/null; cat state-of/current.json))"
expect "another scope is another place" "73" "$(synced s3://bucket/kept --type Patient | cut -d' ' -f1)"

# Whose place it is.
server=a
s3 put bucket taken/notes.txt
expect "a prefix with other data" "73" "$(export_to s3://bucket/taken)"
expect "an export of something else" "73" "$(export_to s3://bucket/sandbox/none --type Patient)"
expect "an export of another machine" "73" \
    "$(XDG_STATE_HOME="$desk/elsewhere" export_to s3://bucket/sandbox/none)"
for other in one two; do
    (
        code=0
        XDG_STATE_HOME="$desk/$other" "$fhirctl" -q bulk-export a --level system \
            --output-dir s3://bucket/race --poll-floor 10ms >/dev/null 2>"race-$other.err" || code=$?
        echo "$code" >"race-$other"
    ) &
    racing="${racing:-} $!"
done
# shellcheck disable=SC2086
wait $racing
expect "two machines at once: one begins" "0 73" "$(sort -n race-one race-two | xargs)"
expect "a bucket that is not there" "66 true" \
    "$(export_to s3://no-such-bucket/x) $(jq -Rs 'contains("bulk.store_missing")' export.err)"
code=0
"$fhirctl" --yes bulk-export purge s3://bucket/sandbox/gzip >>all-output 2>&1 || code=$?
expect "purged" "0 0" "$code $(s3 list bucket sandbox/gzip/ | grep -c . || true)"
expect "and its ledger with it" 66 \
    "$(code=0; "$fhirctl" bulk-export status s3://bucket/sandbox/gzip >>all-output 2>&1 || code=$?; echo "$code")"

# Who may not: moto asks for known keys from here on.
curl -sf -o /dev/null -H 'Content-Type: text/plain' -d 0 "$AWS_ENDPOINT_URL/moto-api/reset-auth"
expect "a wrong credential" "77 true" \
    "$(export_to s3://bucket/wrong) $(jq -Rs 'contains("bulk.store_refused")' export.err)"
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
export AWS_EC2_METADATA_DISABLED=true
expect "no credential at all" 77 "$(export_to s3://bucket/wrong)"
mkdir -p .aws
printf '[ops]\naws_access_key_id = AKIAIOSFODNN7PROFILE\naws_secret_access_key = planted-profile-key\n' >.aws/credentials
expect "keys of a profile, which moto does not know" "77 true" \
    "$(AWS_PROFILE=ops export_to s3://bucket/wrong) $(jq -Rs 'contains("InvalidAccessKeyId")' export.err)"
expect "no secret in any output, log or ledger" "" \
    "$(grep -rlE 'planted-(secret|profile)-key' all-output "$XDG_STATE_HOME" race-* || true)"
conclude
