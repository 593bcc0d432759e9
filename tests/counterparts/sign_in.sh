#!/usr/bin/env bash
# Signing in at providers that others wrote: sign_in.sh BINARY. One line an expectation.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "${1:?the binary}")

desk=$(mktemp -d)
provider=
trap '[ -z "$provider" ] || kill "$provider" 2>/dev/null || true; rm -rf "$desk"' EXIT
export XDG_STATE_HOME=$desk/state NO_COLOR=1 HOME=$desk FHIRCTL_NO_PROGRESS=1
unset DBUS_SESSION_BUS_ADDRESS
cd "$desk"
umask 077
failed=0
expect() { # WHAT WANTED FOUND
    if [ "$2" = "$3" ]; then
        printf 'PASS  %s\n' "$1"
    else
        printf 'FAIL  %s: wanted %s, found %s\n' "$1" "$2" "$3"
        failed=1
    fi
}
verdict() { # NAME: exit code and reason of auth test
    local code=0
    "$fhirctl" -o json auth test "$1" >told.json 2>errors || code=$?
    jq -r --arg code "$code" '"\($code) \(.server.code // "none")"' told.json 2>/dev/null || echo "$code $(cat errors)"
}

# Keys first: the provider is told their public halves.
cat >servers.yaml <<'YAML'
version: 1
servers:
  - {name: es, url: "http://127.0.0.1:9/fhir", auth: {method: smart-backend, client_id: es, key: "file:es.pem"}}
  - {name: rs, url: "http://127.0.0.1:9/fhir", auth: {method: smart-backend, client_id: rs, key: "file:rs.pem"}}
YAML
"$fhirctl" -q auth jwks es --generate=ES384 >es.json
"$fhirctl" -q auth jwks rs --generate=RS384 >rs.json
expect "a published set holds no private member" "0" "$(jq -s '[.[].keys[]|has("d")]|map(select(.))|length' es.json rs.json)"
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out other.pem 2>/dev/null
printf '%s\n' 'the secret+of/basic' >basic.secret
printf '%s\n' 'the secret+of/post' >post.secret
printf '%s\n' 'another' >wrong.secret

folder=$(install_once oidc "$here/oidc/package-lock.json" npm_ci "$here/oidc")
mkfifo line
(cd "$folder" && exec node "$here/oidc/server.mjs" "$desk") >line &
provider=$!
read -r facts <line
fhir=$(jq -r .fhir <<<"$facts") issuer=$(jq -r .issuer <<<"$facts") state=$(jq -r .state <<<"$facts")
tokens() { curl -s "$state" | jq .tokens; }

cat >servers.yaml <<YAML
version: 1
defaults: {rate_limit: {requests_per_second: 1000, burst: 1000}}
servers:
  - {name: basic, url: "$fhir", auth: {method: oauth2, client_id: basic, client_secret: "file:basic.secret", token_url: "$issuer/token", scopes: [system/Patient.rs]}}
  - {name: post, url: "$fhir", auth: {method: oauth2, client_id: post, client_secret: "file:post.secret", token_url: "$issuer/token", token_auth: post, scopes: [system/Patient.rs]}}
  - {name: es, url: "$fhir", auth: {method: smart-backend, client_id: es, key: "file:es.pem", token_url: "$issuer/token", scopes: [system/Patient.rs]}}
  - {name: rs, url: "$fhir", auth: {method: smart-backend, client_id: rs, key: "file:rs.pem", token_url: "$issuer/token", scopes: [system/Patient.rs, system/Observation.rs]}}
  - {name: wrong, url: "$fhir", active: false, auth: {method: oauth2, client_id: basic, client_secret: "file:wrong.secret", token_url: "$issuer/token", scopes: [system/Patient.rs]}}
  - {name: nobody, url: "$fhir", active: false, auth: {method: oauth2, client_id: nobody, client_secret: "file:wrong.secret", token_url: "$issuer/token", scopes: [system/Patient.rs]}}
  - {name: audience, url: "$fhir", active: false, auth: {method: smart-backend, client_id: es, key: "file:es.pem", token_url: "$issuer/token", audience: "$issuer/elsewhere", scopes: [system/Patient.rs]}}
  - {name: kid, url: "$fhir", active: false, auth: {method: smart-backend, client_id: rs, key: "file:other.pem", key_id: k9, jwks_url: "${state%/state}/nobody.json", token_url: "$issuer/token", scopes: [system/Patient.rs]}}
  - {name: kind, url: "$fhir", active: false, auth: {method: smart-backend, client_id: es, key: "file:rs.pem", token_url: "$issuer/token", scopes: [system/Patient.rs]}}
  - {name: scope, url: "$fhir", active: false, auth: {method: smart-backend, client_id: es, key: "file:es.pem", token_url: "$issuer/token", scopes: [system/Patient.rs, system/Nothing.rs]}}
  - {name: portal, url: "$fhir", active: false, auth: {method: oauth2, flow: authorization-code, client_id: portal, token_url: "$issuer/token", scopes: [openid, offline_access, system/Patient.rs]}}
YAML

for name in basic post es rs; do
    expect "oidc-provider takes $name" "0 none" "$(verdict "$name")"
done
expect "status shows four tokens" "4" "$("$fhirctl" -o json auth status | jq '[.servers[]|select(.state == "accepted" and .token.fresh)]|length')"
expect "a wrong secret" "77 auth.invalid_client" "$(verdict wrong)"
expect "an unknown client" "77 auth.invalid_client" "$(verdict nobody)"
expect "a wrong audience" "77 auth.audience" "$(verdict audience)"
expect "a key that is not published" "77 auth.key_unknown" "$(verdict kid)"
expect "a key of the wrong kind" "77" "$(verdict kind | cut -d' ' -f1)"
expect "a scope that is cut down" "77 auth.scope_reduced" "$(verdict scope)"
curl -s "$state?moved=1" >/dev/null
before=$(tokens)
expect "an endpoint that moved" "77 auth.token_endpoint" "$(verdict es)"
expect "what moved got nothing" "$before" "$(tokens)"
curl -s "$state?moved=0" >/dev/null

rm -rf "$desk/state"
before=$(tokens)
for _ in $(seq 20); do "$fhirctl" --timeout 60s check es >/dev/null 2>&1 & runs+=($!); done
wait "${runs[@]}"
expect "twenty runs ask once" "$((before + 1))" "$(tokens)"

browser=$(command -v chromium || command -v chromium-browser || true)
if [ -n "$browser" ]; then
    # What a public client's sign-in is sealed with, where there is no keyring.
    openssl rand -hex 32 >age.key
    export FHIRCTL_AGE_IDENTITY_FILE=$desk/age.key
    "$fhirctl" -o json auth login portal --no-browser --wait 90s >login.json 2>login.err &
    login=$!
    for _ in $(seq 100); do grep -q '^http' login.err && break; sleep 0.1; done
    page=$(cd "$folder" && node "$here/oidc/browse.mjs" "$(grep -m1 '^http' "$desk/login.err")" "$browser" 2>&1) || true
    expect "the browser comes back" "You are signed in. This window can be closed." "$page"
    code=0; wait "$login" || code=$?
    expect "a user's login is kept" "0 true" "$code $(jq -r .renewable login.json)"
    for round in 1 2; do
        sleep 2.1
        expect "renewed with rotation, round $round" "0 none" "$(verdict portal)"
    done
else
    say "no chromium: the login in a browser was not tried"
fi

[ "$failed" = 0 ] && echo "every expectation holds"
exit "$failed"
