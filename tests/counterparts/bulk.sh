#!/usr/bin/env bash
# Bulk exports where it hurts: a disk that is full, the order in which things reach the disk, and a
# server that others wrote. Usage: bulk.sh BINARY
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "$1")
desk=$(mktemp -d)
sandbox=
helios=
trap 'for pid in $sandbox $helios; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$desk"' EXIT
for name in $(compgen -e); do
    [[ $name == FHIRCTL_* && $name != FHIRCTL_COUNTERPARTS ]] && unset "$name"
done
export XDG_STATE_HOME="$desk/state" NO_COLOR=1
cd "$desk"

serve() { # FLAGS…: a sandbox whose server is called a
    if [ -n "$sandbox" ]; then
        kill "$sandbox"
        wait "$sandbox" 2>/dev/null || true
    fi
    : >sandbox.json
    "$fhirctl" -o json sandbox --bulk wait=0s --bulk retry_after=0 "$@" >sandbox.json &
    sandbox=$!
    for _ in $(seq 200); do
        [ -s sandbox.json ] || sleep 0.05
    done
    printf 'version: 1\nservers:\n  - {name: a, url: "%s"}\n' "$(jq -r .url sandbox.json)" >servers.yaml
}

export_to() { # DIR FLAGS…: the exit code
    local dir=$1 code=0
    shift
    "$fhirctl" -q -o json bulk-export a --output-dir "$dir" --poll-floor 10ms "$@" >export.json 2>export.err || code=$?
    echo "$code"
}

sums() { # DIR
    (cd "$1" && find . -name '*.ndjson' ! -name log.ndjson ! -name '.*.part' -print0 | sort -z | xargs -0 sha256sum)
}

serve --bulk bytes=40MB --bulk files=10
expect "an undisturbed export" "0" "$(export_to whole --level system)"

# A file system of its own, in a mount namespace that ends with the commands.
cat >full.sh <<'SH'
set -eu
mkdir small
mount -t tmpfs -o size="$1" tmpfs small
step() {
    code=0
    "$2" -q -o json bulk-export a --level system --output-dir small/out --poll-floor 10ms --poll-ceiling 100ms \
        >"step-$1.json" 2>"step-$1.err" || code=$?
    echo "$code" >"step-$1.code"
}
[ "$3" = data ] || export XDG_STATE_HOME="$PWD/small/state"
step full "$2"
mount -o remount,size=200m small
step room "$2"
cp -r small/out "full-$3"
umount small
rmdir small
SH
for place in data ledger; do
    unshare --user --map-root-user --mount sh full.sh 24m "$fhirctl" "$place"
    expect "a full disk pauses ($place)" "75" "$(cat step-full.code)"
    expect "it says what to do ($place)" "1" "$(grep -c 'run the same command again' step-full.err)"
    expect "with room it goes on ($place)" "0" "$(cat step-room.code)"
    expect "to the same files ($place)" "$(sums whole | sha256sum)" "$(sums "full-$place" | sha256sum)"
done

# What reaches the disk, and in which order: content, ids, ledger, name, folder.
strace -ff -ttt -y -o trace -e trace=write,fsync,fdatasync,rename,renameat,renameat2 \
    "$fhirctl" -q bulk-export a --level system --output-dir traced --poll-floor 10ms --poll-ceiling 100ms >/dev/null
cat >order.py <<'PY'
import glob, re, sys
calls = []
for trace in glob.glob("trace.*"):
    for line in open(trace, errors="replace"):
        match = re.match(r"(\d+\.\d+) (\w+)\((.*)", line)
        if match:
            calls.append((float(match[1]), match[2], match[3]))
calls.sort()
def first(kind, pattern, after):
    for at, call, rest in calls:
        if at > after and call in kind and re.search(pattern, rest):
            return at
    return None
names = sorted({match[1] for _, call, rest in calls if call.startswith("rename")
                for match in [re.search(r'"[^"]*/\.([A-Z]\w*\.\d+\.ndjson)\.part"', rest)] if match})
wrong = []
sync = ("fsync", "fdatasync")
for name in names:
    part = re.escape("/." + name + ".part>")
    last = max(at for at, call, rest in calls if call == "write" and re.search(part, rest))
    content = first(sync, part, last)
    ids = content and first(sync, r"/ids>", content)
    ledger = ids and first(sync, r"/ledger\.db-wal>", ids)
    named = ledger and first(("rename", "renameat", "renameat2"), re.escape("/." + name + ".part"), last)
    folder = named and first(sync, r"/traced>", named)
    if not folder or not (last < content < ids < ledger < named < folder):
        wrong.append((name, last, content, ids, ledger, named, folder))
print(f"{len(names)} files, {len(wrong)} out of order")
for row in wrong:
    print(row, file=sys.stderr)
PY
expect "content, ids, ledger, name, folder" "10 files, 0 out of order" "$(python3 order.py)"

# A server that others wrote, where its binary is.
if [ -x "${HFS_BINARY:-$cache/helios/bin/hfs}" ]; then
    FHIRCTL_COUNTERPARTS=$cache "$here/helios/start.sh" >helios.json </dev/null &
    helios=$!
    for _ in $(seq 600); do
        [ -s helios.json ] || ! kill -0 "$helios" 2>/dev/null || sleep 0.1
    done
    url=$(jq -r .url helios.json)
    for n in $(seq 25); do
        curl -sf -o /dev/null -X PUT -H 'Content-Type: application/fhir+json' "$url/Observation/o$n" \
            -d "{\"resourceType\":\"Observation\",\"id\":\"o$n\",\"status\":\"final\",\"code\":{\"text\":\"weight\"},\"subject\":{\"reference\":\"Patient/canary-1\"},\"valueQuantity\":{\"value\":71.50}}"
    done
    printf 'version: 1\nservers:\n  - {name: a, url: "%s", vendor: helios}\n' "$url" >servers.yaml
    expect "Helios: system" "0" "$(export_to helios-system --level system --poll-ceiling 1s)"
    expect "Helios: its observations" "25" "$(cat helios-system/Observation.*.ndjson | wc -l)"
    expect "Helios: decimals as they are" "25" "$(grep -c '71\.50' helios-system/Observation.001.ndjson)"
    expect "Helios: patients" "0" "$(export_to helios-patient --level patient --type Patient --poll-ceiling 1s)"
    expect "Helios: by searches" "0" "$(export_to helios-crawl --level system --mode crawl --type Patient,Observation --param _count=10)"
    expect "Helios: both bring the same" "$(sort helios-system/Observation.*.ndjson | jq -cS . | sort | sha256sum)" \
        "$(sort helios-crawl/Observation.*.ndjson | jq -cS . | sort | sha256sum)"
    expect "Helios: the receipt verifies" "true" "$("$fhirctl" -o json bulk-export verify helios-system | jq .verified)"
else
    say "not used: Helios FHIR Server, whose binary is not there (see helios/start.sh)"
fi
conclude
