#!/usr/bin/env bash
# formats.sh BINARY: every format of `check` and `test`, read by its own consumer: jq, a JUnit schema,
# promtool, a CSV reader, a YAML reader, the plugin line of Nagios. A planted secret is in none.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
binary=$(realpath "$1")
lock="$here/fhirstarter/requirements.txt"
# It brings a YAML reader.
python="$(install_once fhirstarter "$lock" python_packages "$lock")/bin/python"

desk=$(mktemp -d)
sandbox=
finish() {
    if [ -n "$sandbox" ]; then
        kill "$sandbox" 2>/dev/null || true
        wait "$sandbox" 2>/dev/null || true
    fi
    rm -rf "$desk"
}
trap finish EXIT
trap 'exit 130' INT TERM
for name in $(compgen -e); do
    [[ $name == FHIRCTL_* && $name != FHIRCTL_COUNTERPARTS ]] && unset "$name"
done
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy SSL_CERT_FILE SSL_CERT_DIR
export XDG_CONFIG_HOME="$desk/config" XDG_STATE_HOME="$desk/state"
export PLANTED="planted-secret-$RANDOM$RANDOM"
cd "$desk"

cat >scenario.yaml <<'YAML'
servers:
  - {name: well}
  - {name: slow, faults: [{kind: latency, value: 300ms, path: /metadata}]}
  - {name: broken, faults: [status=503]}
  - {name: login-page, faults: [login-page]}
  - {name: away, unreachable: true}
  - {name: secure, tls: true}
  - {name: guarded, auth: bearer}
YAML
"$binary" sandbox --scenario scenario.yaml -o json >line.json </dev/null &
sandbox=$!
for _ in $(seq 200); do
    [ -s line.json ] && break
    sleep 0.1
done
url() {
    jq -r --arg name "$1" '.servers[] | select(.name == $name) | .url' line.json
}
cat >servers.yaml <<YAML
version: 1
# Only what is meant to be slow is slow, however busy the machine.
defaults: {thresholds: {health: {warning: 20s, critical: 25s}, metadata: {warning: 20s, critical: 25s}, search: {warning: 20s, critical: 25s}}}
servers:
  - {name: well, url: "$(url well)", description: '=1+1 | <b>"x"</b>', checks: {search: ["Patient?_summary=count"]}}
  - {name: slow, url: "$(url slow)", thresholds: {metadata: {warning: 200ms, critical: 25s}}}
  - {name: broken, url: "$(url broken)"}
  - {name: login-page, url: "$(url login-page)"}
  - {name: away, url: "$(url away)"}
  - {name: secure, url: "$(url secure)", tls: {ca: $(jq -r .ca line.json)}}
  - {name: secretless, url: "$(url well)", auth: {method: bearer, token: "env:NOT_SET_ANYWHERE"}}
  - {name: guarded, url: "$(url guarded)", auth: {method: bearer, token: "env:PLANTED"}}
  - {name: resting, url: "$(url broken)", maintenance: [{from: 2020-01-01T00:00:00Z, until: 2099-01-01T00:00:00Z, reason: 'a "reason" with | = <b> & more'}]}
YAML

failed=0
holds() { # WHAT COMMAND…
    local what=$1
    shift
    if "$@" >consumer.log 2>&1; then
        printf 'PASS  %s\n' "$what"
    else
        printf 'FAIL  %s\n' "$what"
        sed 's/^/      /' consumer.log | head -20
        failed=$((failed + 1))
    fi
}

run() { # FILE EXPECTED-EXIT ARGUMENT…
    local file=$1 expected=$2 code=0
    # Every run is a first one: a credential that was refused twice is held back.
    rm -rf "$XDG_STATE_HOME"
    shift 2
    "$binary" "$@" >"$file" 2>"$file.err" </dev/null || code=$?
    [ "$code" = "$expected" ] || {
        printf 'FAIL  exit %s of %s, expected %s\n' "$code" "$*" "$expected"
        head -5 "$file.err"
        failed=$((failed + 1))
    }
}

promtool_accepts() {
    [ -s "$1" ] && promtool check metrics <"$1"
}
not_found() { # WORD FILE…
    ! grep -l -F -- "$@"
}

run check.json 2 check -o json
holds "check: json by jq" jq -e '.schema == "fhirctl/check/v1" and .exit_code == 2 and .summary.total == 9
    and .summary.maintenance == 1 and (.servers | length) == 9' check.json
for format in ndjson yaml csv markdown junit nagios openmetrics table; do
    run "check.$format" 2 check -o "$format"
    holds "check: $format by its consumer" "$python" "$here/formats/consume.py" "$format" "check.$format" check.json
done
holds "check: junit by a schema" xmllint --noout --schema "$here/formats/junit.xsd" check.junit
holds "check: openmetrics by promtool" promtool_accepts check.openmetrics

for name in well:0 slow:1 broken:2 secretless:3; do
    code=${name#*:} name=${name%:*}
    run one.json "$code" check -o json "$name"
    run one.nagios "$code" check -o nagios "$name"
    holds "check $name: nagios says $code" "$python" "$here/formats/consume.py" nagios one.nagios one.json
done
run collected 2 check -o openmetrics --output-file collected.prom
holds "check --output-file: openmetrics by promtool" promtool_accepts collected.prom
holds "check --output-file: nothing on standard output" test ! -s collected
holds "check --output-file: only the file is left" test "$(find . -name 'collected.prom*' | wc -l)" = 1

run test.json 2 test broken -o json
holds "test: json by jq" jq -e '.schema == "fhirctl/test/v1" and .exit_code == 2 and .server.name == "broken"' test.json
run test.junit 2 test broken -o junit
holds "test: junit by a schema" xmllint --noout --schema "$here/formats/junit.xsd" test.junit
run test.yaml 2 test broken -o yaml
holds "test: yaml by its consumer" "$python" -c 'import sys, yaml; assert yaml.safe_load(open(sys.argv[1]))["server"]["code"] == "http.status"' test.yaml

run nobody.json 66 check nobody -o json
holds "an error: one JSON line" jq -es 'length == 1 and .[0].schema == "fhirctl/error/v1" and .[0].exit_code == 66' nobody.json.err
run nobody.nagios 3 check nobody -o nagios
holds "an error: one line for nagios" "$python" "$here/formats/consume.py" nagios nobody.nagios <(echo '{"exit_code": 3}')

for format in table json ndjson yaml csv markdown junit nagios openmetrics; do
    run "loud.$format" 2 check -vv -o "$format"
done
run loud.test 2 test guarded -vv
holds "the planted secret was sent and refused" jq -e '.servers[] | select(.name == "guarded") | .code == "auth.unauthorized"' check.json
holds "the planted secret is in no output" not_found "$PLANTED" -- *

if [ "$failed" -gt 0 ]; then
    echo "$failed formats are not as their consumers want them"
    exit 1
fi
echo "all formats are read by their consumers"
