#!/bin/sh
# Proves the OS keyring against GNOME Keyring: there, absent, locked, hanging, and under `add` and `check`.
#
#   tests/counterparts/keyring.sh FHIRCTL [present|absent|locked|hanging|commands]…
#
# Needs gnome-keyring, dbus, libsecret-tools, jq and python3 (Debian's names). Touches neither the
# session nor the keyrings of whoever runs it.
set -eu

program=$(realpath "${1:?usage: keyring.sh FHIRCTL [PART…]}")
shift
[ $# -gt 0 ] || set -- present absent locked hanging commands

for tool in gnome-keyring-daemon dbus-run-session dbus-send secret-tool jq python3; do
    command -v "$tool" >/dev/null || { echo "keyring.sh: $tool is missing" >&2; exit 1; }
done

home=$(mktemp -d)
self=$(realpath "$0")
trap 'rm -rf "$home"' EXIT
trap 'exit 1' INT TERM

fail() { echo "keyring.sh: FAILED: $*" >&2; exit 1; }
say() { echo "keyring.sh: $*"; }

# Runs the program with a time limit: whatever the keyring does, it comes back.
fhirctl() { timeout 60 "$program" "$@"; }

# doctor_says EXPECTED [ARGUMENT…]: what doctor has to find, as a jq condition on its keyring check.
doctor_says() {
    expected=$1
    shift
    fhirctl doctor -o json "$@" >"$HOME/doctor.json" || [ $? -le 2 ] || fail "doctor ended with $?"
    jq -e "[.checks[] | select(.name == \"keyring\")][0] | $expected" "$HOME/doctor.json" >/dev/null ||
        fail "doctor does not say $expected: $(jq -c '.checks[0]' "$HOME/doctor.json")"
}

# An unlocked keyring on the session bus; its process id in $daemon.
start_keyring() {
    printf 'a passphrase' | gnome-keyring-daemon --foreground --unlock --components=secrets \
        >"$HOME/daemon.log" 2>&1 &
    daemon=$!
    started="$started $daemon"
    for _ in $(seq 300); do
        # Asked only once it is there: a question would make the bus start a second one.
        if is_on_bus && default_keyring | grep -q collection; then return; fi
        sleep 0.1
    done
    cat "$HOME/daemon.log" >&2
    fail "gnome-keyring-daemon does not come up"
}

is_on_bus() {
    dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner \
        string:org.freedesktop.secrets 2>/dev/null | grep -q 'boolean true'
}
secrets() { dbus-send --session --print-reply --dest=org.freedesktop.secrets "$@"; }
default_keyring() {
    secrets /org/freedesktop/secrets org.freedesktop.Secret.Service.ReadAlias string:default 2>/dev/null
}
lock_keyring() {
    collection=$(default_keyring | sed -n 's/.*object path "\(.*\)"/\1/p')
    secrets /org/freedesktop/secrets org.freedesktop.Secret.Service.Lock "array:objpath:$collection" >/dev/null
}

part_present() {
    start_keyring
    doctor_says '.status == "healthy" and .details.state == "present" and .details.written == null'
    doctor_says '.status == "healthy" and .details.written == true' --write
    if secret-tool search --all service fhirctl 2>&1 | grep -q fhirctl-doctor; then
        fail "doctor --write left an entry behind"
    fi
}

part_absent() {
    # No bus at all.
    DBUS_SESSION_BUS_ADDRESS="unix:path=$HOME/no-such-bus"
    doctor_says '.status == "warning" and .details.state == "absent" and (.hint | contains("env:"))' --write
    # No variable either.
    unset DBUS_SESSION_BUS_ADDRESS
    doctor_says '.details.state == "absent"' --write
}

part_locked() {
    start_keyring
    lock_keyring
    doctor_says '.status == "warning" and .details.state == "locked" and .details.written == null' --write
}

part_hanging() {
    # A keyring that was stopped in its tracks.
    start_keyring
    kill -STOP "$daemon"
    doctor_says '.status == "critical" and .details.state == "hanging"' --write
    # A bus that takes the connection and says nothing.
    python3 -c '
import socket, sys, time
bus = socket.socket(socket.AF_UNIX)
bus.bind(sys.argv[1])
bus.listen()
time.sleep(300)
' "$HOME/silent-bus" &
    started="$started $!"
    for _ in $(seq 100); do
        [ ! -S "$HOME/silent-bus" ] || break
        sleep 0.1
    done
    DBUS_SESSION_BUS_ADDRESS="unix:path=$HOME/silent-bus"
    doctor_says '.status == "critical" and .details.state == "hanging"' --write
}

# check_says EXIT [CODE]: how the check of the registered server has to end.
check_says() {
    status=0
    fhirctl check hospital -o json --only auth --no-input >"$HOME/check.json" || status=$?
    [ "$status" = "$1" ] || fail "check ended with $status, not $1: $(cat "$HOME/check.json")"
    [ $# -lt 2 ] || jq -e --arg code "$2" '.servers[0].code == $code' "$HOME/check.json" >/dev/null ||
        fail "check does not say $2: $(cat "$HOME/check.json")"
}

part_commands() {
    start_keyring
    cd "$HOME"
    fhirctl sandbox --auth basic -o json >sandbox.json 2>sandbox.log &
    started="$started $!"
    for _ in $(seq 100); do
        [ ! -s sandbox.json ] || break
        sleep 0.1
    done
    url=$(jq -r '.servers[0].url' sandbox.json)
    user=$(jq -r '.servers[0].auth.username' sandbox.json)
    secret_file=$(jq -r '.servers[0].auth.secret_file' sandbox.json)
    export FHIRCTL_INVENTORY="$HOME/servers.yaml"
    printf 'version: 1\nservers: []\n' >servers.yaml

    fhirctl add hospital "$url" --auth basic --set "auth.username=$user" --secret-stdin --no-input \
        <"$secret_file" >add.txt 2>&1 || { cat add.txt >&2; fail "add ended with $?"; }
    grep -q 'keyring:hospital/password' servers.yaml || fail "the inventory does not name the keyring"
    if grep -qF "$(cat "$secret_file")" servers.yaml add.txt; then fail "the secret stands in the clear"; fi
    [ "$(secret-tool lookup service fhirctl username hospital/password)" = "$(cat "$secret_file")" ] ||
        fail "the keyring does not hold what was given"
    check_says 0

    # Stored by another tool, as the error for a missing entry advises.
    secret-tool clear service fhirctl username hospital/password
    check_says 3 auth.credential_missing
    tr -d '\n' <"$secret_file" |
        secret-tool store --label=fhirctl service fhirctl username hospital/password
    check_says 0

    lock_keyring
    check_says 3 auth.credential_missing
    grep -q locked check.json || fail "check does not say that the keyring is locked"

    kill -STOP "$daemon"
    check_says 3 auth.credential_missing
    kill -CONT "$daemon"

    DBUS_SESSION_BUS_ADDRESS="unix:path=$HOME/no-such-bus"
    check_says 3 auth.credential_missing
}

if [ "${KEYRING_SH_INSIDE:-}" ]; then
    # Inside a session of its own, with a home of its own.
    rm -rf "$home"
    started=
    # A stopped process ends only once it goes on.
    trap 'for id in $started; do kill "$id" 2>/dev/null || true; kill -CONT "$id" 2>/dev/null || true; done' EXIT
    "part_$1"
    exit
fi

for part in "$@"; do
    mkdir -m 700 "$home/$part"
    env -i PATH="$PATH" LANG=C.UTF-8 HOME="$home/$part" XDG_RUNTIME_DIR="$home/$part" KEYRING_SH_INSIDE=1 \
        dbus-run-session -- sh "$self" "$program" "$part" 2>"$home/$part.log" || {
        cat "$home/$part.log" >&2
        fail "$part"
    }
    say "$part: ok"
done
