# What the scripts beside this one share. It is sourced, not run.
#
# Servers are installed once, into a folder outside the checkout, in exactly the versions that the
# lock files name, and listen on loopback alone, on ports that the system picks.
# shellcheck shell=bash

# The scripts' own talk to loopback goes through no proxy.
export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost

cache="${FHIRCTL_COUNTERPARTS:-${XDG_CACHE_HOME:-$HOME/.cache}/fhirctl-counterparts}"

say() {
    printf '%s\n' "$*" >&2
}

# install_once NAME LOCK COMMAND…: runs COMMAND in a fresh folder unless that was done for this LOCK file
# before; prints the folder. A half-made folder never gets the final name.
install_once() {
    local name=$1 lock=$2
    shift 2
    local digest folder
    digest=$(sha256sum "$lock" | cut -c1-12)
    folder="$cache/$name-$digest"
    if [ ! -d "$folder" ]; then
        mkdir -p "$cache"
        local fresh
        fresh=$(mktemp -d "$cache/.$name.XXXXXX")
        say "installing $name"
        if ! (cd "$fresh" && "$@") >"$fresh/install.log" 2>&1 </dev/null; then
            cat "$fresh/install.log" >&2
            rm -rf "$fresh"
            return 1
        fi
        # Somebody else may have been faster.
        mv -T "$fresh" "$folder" 2>/dev/null || rm -rf "$fresh"
    fi
    printf '%s\n' "$folder"
}

npm_ci() { # FOLDER with package.json and package-lock.json
    cp "$1/package.json" "$1/package-lock.json" .
    npm ci --ignore-scripts --no-audit --no-fund
}

python_packages() { # REQUIREMENTS
    # It is moved afterwards, so only its `bin/python` is used: other scripts in it know the old path.
    python3 -m venv .
    bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r "$1"
}

# Prints N ports that are free now.
free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
held = []
for _ in range(int(sys.argv[1])):
    held.append(socket.create_server(("127.0.0.1", 0)))
print(*(listener.getsockname()[1] for listener in held))
PYTHON
}

# serve NAME COMMAND…: starts a server whose first line says {"name","port"}, prints
# {"name","url","pid"}, and keeps it until the caller is gone.
serve() {
    local name=$1 lines
    shift
    lines=$(mktemp)
    "$@" >"$lines" </dev/null &
    local pid=$!
    guard "$pid" "$lines"
    local waited=0
    until grep -q '"port"' "$lines"; do
        if ! kill -0 "$pid" 2>/dev/null || [ "$waited" -ge 600 ]; then
            say "$name did not start"
            exit 1
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
    jq -c --arg scheme "${scheme:-http}" --arg name "$name" --argjson pid "$pid" \
        '{name: $name, url: "\($scheme)://127.0.0.1:\(.port)", pid: $pid}' <"$lines" | head -1
    stand_by "$pid"
}

# guard PID FILE…: whatever happens, the process ends and the files go.
guard() {
    guarded_pid=$1
    shift
    guarded_files=("$@")
    # shellcheck disable=SC2154
    trap 'kill "$guarded_pid" 2>/dev/null || true; rm -rf "${guarded_files[@]}"' EXIT
    trap 'exit 0' TERM INT HUP
}

# Waits until the process ends or nobody is left who asked for it.
stand_by() {
    while kill -0 "$1" 2>/dev/null && kill -0 "$PPID" 2>/dev/null; do
        # In the background, so that a signal is answered at once.
        sleep 1 >/dev/null &
        wait $! || true
    done
    exit 0
}

# One line an expectation. A script that uses it ends with `conclude`.
failed=0
expect() { # WHAT WANTED FOUND
    if [ "$2" = "$3" ]; then
        printf 'PASS  %-58s %s\n' "$1" "$2"
    else
        printf 'FAIL  %-58s wanted: %s; found: %s\n' "$1" "$2" "$3"
        failed=$((failed + 1))
    fi
}

conclude() {
    if [ "$failed" -gt 0 ]; then
        echo "$failed expectations do not hold"
        exit 1
    fi
    echo "every expectation holds"
}

# verdict BINARY NAME: exit code and reason of `auth test`, whose document stays in NAME.told.json.
verdict() {
    local code=0
    "$1" -o json auth test "$2" >"$2.told.json" 2>"$2.errors" || code=$?
    jq -r --arg code "$code" '"\($code) \(.server.code // .server.status)"' "$2.told.json" 2>/dev/null ||
        echo "$code $(head -c 300 "$2.errors")"
}
