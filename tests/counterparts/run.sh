#!/usr/bin/env bash
# run.sh BINARY: starts real servers, and has `check` and `test` say the right thing about each.
# Ends with 0 only when every line of its table says PASS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
binary=$(realpath "$1")

# Nothing of the caller's own surroundings.
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

start() { # NAME ARGUMENT…: its line goes to a file, what it complains of to standard error
    local name=$1
    shift
    "$here/$name/start.sh" "$@" >"$desk/$name.json" </dev/null &
    started+=($!)
    eval "pid_$(tr - _ <<<"$name")=$!"
}

await() { # NAME: until its line is there
    local pid="pid_$(tr - _ <<<"$1")" waited=0
    # Ten minutes: the first start installs.
    until [ -s "$desk/$1.json" ]; do
        if ! kill -0 "${!pid}" 2>/dev/null || [ "$waited" -ge 6000 ]; then
            local code=0
            wait "${!pid}" || code=$?
            return "$code"
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
}

need() {
    if ! await "$1"; then
        say "$1 could not be started"
        exit 1
    fi
    say "started $1"
}

url() { # NAME
    jq -r .url "$desk/$1.json"
}

start asymmetrik
start fhirstarter
start medplum
start helios
need asymmetrik
upstream=$(url asymmetrik)
start nginx "$upstream"
need nginx
tls=$(jq -r .folder "$desk/nginx.json")
start client-wall "$tls/good.pem" "$tls/good.key" "$tls/ca.pem"
need client-wall
need fhirstarter
need medplum
helios=$(await helios && url helios || true)

front() { # NAME: the port of nginx with this habit, in front of asymmetrik's R4
    jq -r --arg name "$1" '"\(.servers[$name])/4_0_0"' "$desk/nginx.json"
}

wall="$(url client-wall)/fhir"
ca="tls: {ca: $tls/ca.pem}"
client="certificate: $tls/client.pem, key: \"file:$tls/client.key\""
foreign="certificate: $tls/foreign-client.pem, key: \"file:$tls/foreign-client.key\""
patient='metadata: {expect: {resources: [Patient], interactions: {Patient: [read, search-type]}}}'
deep="search: [\"Patient?_summary=count\"], read: [{ref: Patient/canary-1, synthetic: true}], assert: [{query: \"Patient?family=Canary\", expression: \"total = 1\"}]"
absent='read: [{ref: Patient/canary-2, synthetic: true}]'

# name | url | status | code | the rest of the inventory's entry
cases=(
    "asymmetrik-stu3|$upstream/3_0_1|healthy||fhir_version: STU3, checks: {$patient, $deep}"
    "asymmetrik-r4|$upstream/4_0_0|healthy||fhir_version: R4, checks: {$patient, $deep}"
    "asymmetrik-wrong-version|$upstream/3_0_1|critical|fhir.version_mismatch|fhir_version: R4"
    "asymmetrik-plain-text-404|$upstream/4_0_0|critical|fhir.record_missing|checks: {$absent}"
    "asymmetrik-wrong-base|$upstream/r4|critical|http.status|"
    "asymmetrik-unmet-type|$upstream/4_0_0|critical|fhir.resource_missing|checks: {metadata: {expect: {resources: [Observation]}}}"
    "asymmetrik-unmet-operation|$upstream/4_0_0|critical|fhir.operation_missing|checks: {metadata: {expect: {operations: [export]}}}"
    "asymmetrik-failed-assertion|$upstream/4_0_0|critical|assert.failed|checks: {assert: [{query: \"Patient?family=Canary\", expression: \"total > 1\"}]}"
    "fhirstarter-r5|$(url fhirstarter)|healthy||fhir_version: R5, checks: {$patient, $deep}"
    "fhirstarter-missing-canary|$(url fhirstarter)|critical|fhir.record_missing|checks: {$absent}"
    "fhirstarter-wrong-base|$(url fhirstarter)/fhir|critical|http.status|"
    "medplum-metadata-is-a-bundle|$(url medplum)|critical|fhir.not_a_capability_statement|checks: {$deep}"
    "medplum-missing-canary|$(url medplum)|critical|fhir.record_missing|checks: {$absent}, accept: [{code: fhir.not_a_capability_statement, reason: it has none, until: 2099-01-01}]"
    "tls|$(front good)|healthy||$ca, fhir_version: R4, checks: {$patient, $deep}"
    "tls-untrusted|$(front good)|critical|tls.untrusted|"
    "tls-five-days-left|$(front five-days)|warning|tls.expiring|$ca"
    "tls-expired|$(front expired)|critical|tls.expired|$ca"
    "tls-not-yet-valid|$(front not-yet)|critical|tls.not_yet_valid|$ca"
    "tls-wrong-host|$(front wrong-host)|critical|tls.hostname_mismatch|$ca"
    "tls-self-signed|$(front self-signed)|critical|tls.self_signed|$ca"
    "tls-1-2-only|$(front tls12)|healthy||$ca"
    "tls-1-2-too-old|$(front tls12)|critical|tls.protocol|tls: {ca: $tls/ca.pem, min_version: \"1.3\"}"
    "tls-1-3-only|$(front tls13)|healthy||$ca"
    "client-certificate-page|$(front client-certificate)|critical|tls.client_certificate_required|$ca"
    "client-certificate-shown|$(front client-certificate)|healthy||tls: {ca: $tls/ca.pem, client_certificate: {$client}}"
    "client-certificate-foreign|$(front client-certificate)|critical|tls.client_certificate_rejected|tls: {ca: $tls/ca.pem, client_certificate: {$foreign}}"
    "client-certificate-alert|$wall|critical|tls.client_certificate_required|$ca"
    "client-certificate-alert-shown|$wall|healthy||tls: {ca: $tls/ca.pem, client_certificate: {$client}}"
    "client-certificate-alert-foreign|$wall|critical|tls.client_certificate_rejected|tls: {ca: $tls/ca.pem, client_certificate: {$foreign}}"
    "proxied|$(front plain)|healthy||checks: {$patient, $deep}"
    "login-page|$(front login-page)|critical|fhir.not_fhir|"
    "unauthorized|$(front unauthorized)|critical|auth.unauthorized|"
    "forbidden|$(front forbidden)|critical|auth.forbidden|"
    "unavailable|$(front unavailable)|critical|http.status|"
    "closed|$(front closed)|critical|http.closed|"
    "health-down|$(front down)|critical|health.down|checks: {health: {path: /health}}"
    "outcome-error|$(front outcome-error)|critical|fhir.operation_outcome|"
    "truncated|$(front truncated)|critical|fhir.malformed|"
    "nobody|http://127.0.0.1:$(free_ports 1)/fhir|critical|tcp.refused|"
)
if [ -n "$helios" ]; then
    # Its search results have no total.
    cases+=("helios|$helios|healthy||vendor: helios, fhir_version: R4, checks: {${deep/total = 1/entry.count() = 1}}")
fi

{
    echo 'version: 1'
    # The servers share one machine with everything else that runs on it: slow is not the question.
    echo 'defaults: {thresholds: {health: {warning: 20s, critical: 25s}, metadata: {warning: 20s, critical: 25s}, search: {warning: 20s, critical: 25s}}}'
    echo 'servers:'
    for case in "${cases[@]}"; do
        IFS='|' read -r name base _ _ rest <<<"$case"
        echo "  - {name: $name, url: \"$base\"${rest:+, $rest}}"
    done
} >"$desk/servers.yaml"
cd "$desk"

failed=0
verdict() { # WHAT EXPECTED SEEN
    if [ "$2" = "$3" ]; then
        printf 'PASS  %-48s %s\n' "$1" "$2"
    else
        printf 'FAIL  %-48s expected: %s; seen: %s\n' "$1" "$2" "$3"
        failed=$((failed + 1))
    fi
}

code=0
"$binary" check -o json >check.json 2>check.err || code=$?
if ! jq -e '.schema == "fhirctl/check/v1"' check.json >/dev/null 2>&1; then
    cat check.err >&2
    exit 1
fi
verdict "check: exit code" 2 "$code"
said() { # NAME: what is known of the server, by what it says of itself
    jq -r --arg name "$1" '.servers[] | select(.name == $name) | "\(.fhir_version), \(.software)"' check.json
}
verdict "says asymmetrik-stu3" "3.0.1, FHIR Server 1.4.0" "$(said asymmetrik-stu3)"
verdict "says asymmetrik-r4" "4.0.0, FHIR Server 1.4.0" "$(said asymmetrik-r4)"
verdict "says fhirstarter-r5" "5.0.0, null" "$(said fhirstarter-r5)"
for case in "${cases[@]}"; do
    IFS='|' read -r name _ status reason _ <<<"$case"
    seen=$(jq -r --arg name "$name" '.servers[] | select(.name == $name) | "\(.status) \(.code // "")"' check.json)
    verdict "check $name" "$status $reason" "$seen"

    case $status in healthy) expected=0 ;; warning) expected=1 ;; critical) expected=2 ;; *) expected=3 ;; esac
    code=0
    "$binary" test "$name" -o json >test.json 2>test.err || code=$?
    seen=$(jq -r '"\(.schema) \((.server // .servers[0]) | "\(.status) \(.code // "")")"' test.json 2>/dev/null || head -c 300 test.err)
    verdict "test $name" "fhirctl/test/v1 $status $reason exit $expected" "$seen exit $code"
done

# Without its statement, that is no statement, the router is as healthy as any other.
code=0
"$binary" check medplum-metadata-is-a-bundle --skip metadata -o json >check.json 2>check.err || code=$?
verdict "check medplum --skip metadata" "healthy exit 0" "$(jq -r .status check.json 2>/dev/null) exit $code"
code=0
"$binary" check 'asymmetrik-stu3' asymmetrik-r4 fhirstarter-r5 tls -o json >check.json 2>check.err || code=$?
verdict "check of the healthy" "4 exit 0" "$(jq -r .summary.healthy check.json 2>/dev/null) exit $code"

echo
echo "used: node-fhir-server-core 2.2.5 (STU3, R4), fhirstarter 4.2.0 (R5), Medplum router 4.5.2 (R4), $(nginx -v 2>&1 | sed 's/.*: //')"
if [ -n "$helios" ]; then
    echo "used: Helios FHIR Server (R4) as well"
else
    echo "not used: Helios FHIR Server, whose binary is not in $cache/helios/bin (see helios/start.sh)"
fi
if [ "$failed" -gt 0 ]; then
    echo "$failed verdicts are not as expected"
    exit 1
fi
echo "all verdicts are as expected"
