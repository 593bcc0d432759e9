#!/usr/bin/env bash
# metrics.sh BINARY: `diag NAME resources` reads, and `check` and `report capacity` keep and tell, what real exporters write: the node exporter of Prometheus,
# and Helios where it is installed. Ends with 0 only when every line says PASS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "${1:?usage: metrics.sh BINARY}")
for name in $(compgen -e); do
    [[ $name == FHIRCTL_* && $name != FHIRCTL_COUNTERPARTS ]] && unset "$name"
done
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy SSL_CERT_FILE SSL_CERT_DIR

desk=$(mktemp -d)
started=()
finish() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    wait
    rm -rf "$desk"
}
trap finish EXIT
trap 'exit 130' INT TERM
export XDG_CONFIG_HOME="$desk/config" XDG_STATE_HOME="$desk/state" NO_COLOR=1

failed=0
expect() { # WHAT FILTER FILE
    if jq -e "$2" "$3" >/dev/null; then
        printf 'PASS    %s\n' "$1"
    else
        printf 'FAIL    %s\n' "$1"
        jq '.topics[0]? // .servers | if type == "object" then {code, message, details} else . end' "$3" | head -n 60
        failed=$((failed + 1))
    fi
}
diag() { # NAME: the code is that of the verdict, which depends on the machine
    "$fhirctl" -i "$desk/servers.yaml" -o json --no-progress diag "$1" resources >"$desk/$1.json" || [ $? -le 3 ]
}

read -r port <<<"$(free_ports 1)"
prometheus-node-exporter --web.listen-address="127.0.0.1:$port" >"$desk/exporter.log" 2>&1 </dev/null &
started+=($!)
"$fhirctl" -o json sandbox >"$desk/sandbox.out" 2>"$desk/sandbox.err" </dev/null &
started+=($!)
for _ in $(seq 100); do
    grep -q url "$desk/sandbox.out" && curl -sf -o "$desk/page" -m 5 "http://127.0.0.1:$port/metrics" && break
    sleep 0.1
done
sandbox=$(jq -r '.servers[0].url' "$desk/sandbox.out")
cat >"$desk/servers.yaml" <<YAML
version: 1
servers:
  - name: node
    url: "$sandbox"
    checks: {resources: {url: "http://127.0.0.1:$port/metrics"}}
YAML
diag node
expect "node exporter: the format is recognised" '.topics[0].details.format == "prometheus"' "$desk/node.json"
samples=$(grep -c '^[^#]' "$desk/page")
# Collectors come and go by a few between two looks.
expect "node exporter: every sample is read" \
    ".topics[0].details.samples >= ($samples * 0.9) and .topics[0].details.samples <= ($samples * 1.1)" "$desk/node.json"
total=$(awk '$1 == "node_memory_MemTotal_bytes" { printf "%.0f", $2 }' "$desk/page")
expect "node exporter: the machine's memory is what it says" \
    ".topics[0].details.readings[] | select(.id == \"machine_memory\") | .limit == $total and .percent > 0 and .percent < 100" \
    "$desk/node.json"
expect "node exporter: open files and load are there" \
    '[.topics[0].details.readings[].id] | index("open_files") != null and index("load") != null' "$desk/node.json"

# The same page, read by check and told by report capacity.
"$fhirctl" -i "$desk/servers.yaml" -o json --no-progress check node >"$desk/check.json" || true
expect "check: the run is recorded" '.recorded' "$desk/check.json"
"$fhirctl" -i "$desk/servers.yaml" -o json --no-progress report capacity --line machine_memory=50% >"$desk/capacity.json"
expect "report capacity: the machine's memory against a line of one's own" \
    ".servers[] | select(.gauge == \"machine_memory\") | .limit.value == $total * 0.5 and .limit_source == \"flag\" and .newest.value > 0" \
    "$desk/capacity.json"
disks=$(jq '[.topics[0].details.readings[] | select(.id == "disk")] | length' "$desk/node.json")
expect "report capacity: every disk" "[.servers[] | select(.gauge == \"disk\")] | length == $disks" "$desk/capacity.json"

if "$here/helios/start.sh" >"$desk/helios.out" 2>"$desk/helios.err" </dev/null & then
    helios=$!
    started+=("$helios")
    for _ in $(seq 600); do
        [ -s "$desk/helios.out" ] || ! kill -0 "$helios" 2>/dev/null && break
        sleep 0.1
    done
fi
if [ -s "$desk/helios.out" ]; then
    url=$(jq -r .url "$desk/helios.out")
    printf '  - {name: helios, vendor: helios, url: "%s"}\n' "$url" >>"$desk/servers.yaml"
    diag helios
    expect "Helios: the preset's address holds metrics" \
        '.topics[0].details.format == "prometheus" and .topics[0].details.samples > 0 and .topics[0].status == "healthy"' "$desk/helios.json"
else
    echo "SKIP    Helios is not installed"
fi
[ "$failed" = 0 ]
