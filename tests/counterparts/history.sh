#!/usr/bin/env bash
# history.sh BINARY: history where it hurts: a disk that is full at a check, an import and a compaction, and a
# minute in which ten writers on each engine are killed at random. Ends with 0 only when every line says PASS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "${1:?usage: history.sh BINARY}")
for name in $(compgen -e); do
    [[ $name == FHIRCTL_* && $name != FHIRCTL_COUNTERPARTS ]] && unset "$name"
done
desk=$(mktemp -d)
sandbox=
trap '[ -z "$sandbox" ] || kill "$sandbox" 2>/dev/null || true; wait; rm -rf "$desk"' EXIT
export XDG_STATE_HOME="$desk/state" NO_COLOR=1
cd "$desk"
"$fhirctl" -o json sandbox >sandbox.json </dev/null &
sandbox=$!
for _ in $(seq 200); do
    [ -s sandbox.json ] || sleep 0.05
done
printf 'version: 1\nhistory: {url: "sqlite:small/h.db"}\nservers: [{name: a, url: "%s", schedule: {every: 1m}}]\n' \
    "$(jq -r .url sandbox.json)" >servers.yaml
# Three weeks of minutes.
python3 -c '
import datetime
begin = datetime.datetime(2026, 3, 2)
print("at,status,duration_ms")
for n in range(30240):
    at = begin + datetime.timedelta(minutes=n)
    print(at.isoformat() + "Z", "down" if n % 97 == 5 else "up", 100 + n % 800, sep=",")' >seen.csv
# As if it had been written ten days ago, so that it can be packed.
printf 'import sqlite3\ndb = sqlite3.connect("small/h.db")\ndb.execute("UPDATE reading SET written = written - 864000000")\ndb.commit()\n' >age.py
# A file system of its own, in a mount namespace that ends with the commands.
cat >full.sh <<'SH'
set -u
mkdir small
mount -t tmpfs -o size=1m tmpfs small
step() {
    name=$1
    shift
    code=0
    "$fhirctl" -o json "$@" >"$name.json" 2>"$name.err" </dev/null || code=$?
    echo "$code" >"$name.code"
}
fill() {
    cat /dev/zero >small/filler 2>/dev/null
    # Down to the last page.
    cat /dev/zero >small/filler2 2>/dev/null
}
step first --timeout 9s check
fill
step full-check --timeout 9s check
rm small/filler small/filler2
step room-check --timeout 9s check
step full-import history import seen.csv --server a
mount -o remount,size=100m small
step room-import history import seen.csv --server a
python3 age.py
fill
step full-compact history compact
rm small/filler small/filler2
step between history verify
step room-compact history compact
step status history status
step verify history verify
step availability report availability --from 2026-03-02 --to 2026-03-23
umount small
SH
if ! unshare --user --map-root-user --mount true 2>/dev/null; then
    touch not-allowed
else
    fhirctl=$fhirctl unshare --user --map-root-user --mount sh full.sh
fi
code() { cat "$1.code"; }
if [ -e not-allowed ]; then
    say "not tried: a full disk, since no file system may be mounted here"
else
    expect "a check with room is recorded" "0 true" "$(code first) $(jq .recorded first.json)"
    expect "a full disk changes no verdict" "0 false" "$(code full-check) $(jq .recorded full-check.json)"
    expect "and is told" "1" "$(grep -c 'not in the history: the disk is full' full-check.err)"
    expect "with room again it is recorded" "0 true" "$(code room-check) $(jq .recorded room-check.json)"
    expect "an import pauses" "75" "$(code full-import)"
    expect "and says what to do" "1" "$(grep -c 'make room' full-import.err)"
    expect "the same import again takes in what is left" "0 30240" \
        "$(code room-import) $(jq '.servers[0] | .readings + .known_already' room-import.json)"
    expect "a compaction pauses" "75" "$(code full-compact)"
    expect "and leaves everything whole" "0 30242" "$(code between) $(jq .readings between.json)"
    expect "with room it packs all" "0 30242" "$(code room-compact) $(jq .packed_readings status.json)"
    expect "nothing was lost and nothing doubled" "0 30242" "$(code verify) $(jq .readings verify.json)"
    # Every 97th minute of 21 days.
    expect "its minutes down" "312" "$(jq '.servers[0].totals.down_ms / 60000' availability.json)"
fi

cd "$here/../.."
test=history::crash::writers_that_are_killed_leave_every_acknowledged_run_once
expect "a minute of writers that are killed" "1 passed" \
    "$(FHIRCTL_TEST_SECONDS=60 cargo test --locked --quiet --test it -- --exact $test 2>&1 </dev/null | tee "$desk/killed.log" |
        grep -o '1 passed' || tail -30 "$desk/killed.log")"
conclude
