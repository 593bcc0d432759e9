#!/usr/bin/env bash
# Signing in at providers that others wrote: sign_in.sh BINARY. One line an expectation.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "${1:?the binary}")

desk=$(mktemp -d)
provider=
helios=
trap 'for pid in $helios $provider; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$desk"' EXIT
trap 'exit 130' INT TERM
for name in $(compgen -e); do
    [[ $name == FHIRCTL_* && $name != FHIRCTL_COUNTERPARTS ]] && unset "$name"
done
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy SSL_CERT_FILE SSL_CERT_DIR
export XDG_STATE_HOME=$desk/state NO_COLOR=1 HOME=$desk FHIRCTL_NO_PROGRESS=1
unset DBUS_SESSION_BUS_ADDRESS
cd "$desk"
umask 077

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
renewals() { curl -s "$state" | jq '.grants.refresh_token // 0'; }

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
  - {name: published, url: "$fhir", active: false, auth: {method: smart-backend, client_id: published, key: "file:es.pem", jku: "${state%/state}/es.json", token_url: "$issuer/token", scopes: [system/Patient.rs]}}
  - {name: unpublished, url: "$fhir", active: false, auth: {method: smart-backend, client_id: unpublished, key: "file:es.pem", jku: "${state%/state}/nobody.json", token_url: "$issuer/token", scopes: [system/Patient.rs]}}
  - {name: narrow, url: "$fhir", active: false, auth: {method: oauth2, client_id: narrow, client_secret: "file:post.secret", token_url: "$issuer/token", token_auth: post, scopes: [system/Observation.rs]}}
  - {name: portal, url: "$fhir", active: false, auth: {method: oauth2, flow: authorization-code, client_id: portal, token_url: "$issuer/token", scopes: [openid, offline_access, system/Patient.rs]}}
YAML

for name in basic post es rs; do
    expect "oidc-provider takes $name" "0 healthy" "$(verdict "$fhirctl" "$name")"
done
expect "status shows four tokens" "4" "$("$fhirctl" -o json auth status | jq '[.servers[]|select(.state == "accepted" and .token.fresh)]|length')"
expect "oidc-provider fetches the published set" "0 healthy" "$(verdict "$fhirctl" published)"
expect "a wrong secret" "77 auth.invalid_client" "$(verdict "$fhirctl" wrong)"
expect "an unknown client" "77 auth.invalid_client" "$(verdict "$fhirctl" nobody)"
expect "a wrong audience" "77 auth.audience" "$(verdict "$fhirctl" audience)"
expect "a key that is not published" "77 auth.key_unknown" "$(verdict "$fhirctl" kid)"
expect "a published set without the key" "77 auth.key_unknown" "$(verdict "$fhirctl" unpublished)"
expect "a key of the wrong kind" "77 auth.invalid_client" "$(verdict "$fhirctl" kind)"
expect "a scope that this client may not have" "77 auth.invalid_scope" "$(verdict "$fhirctl" narrow)"
expect "a scope that is cut down" "77 auth.scope_reduced" "$(verdict "$fhirctl" scope)"
curl -s "$state?moved=1" >/dev/null
before=$(tokens)
expect "an endpoint that moved" "77 auth.token_endpoint" "$(verdict "$fhirctl" es)"
expect "what moved got nothing" "$before 0" "$(tokens) $(curl -s "$state" | jq .elsewhere)"
curl -s "$state?moved=0" >/dev/null

rm -rf "$desk/state"
# Twenty runs at once: how many ended well.
twenty() { # NAME
    local runs=() run well=0
    for _ in $(seq 20); do
        "$fhirctl" --timeout 60s check "$1" >/dev/null 2>&1 &
        runs+=($!)
    done
    for run in "${runs[@]}"; do
        wait "$run" && well=$((well + 1))
    done
    echo "$well"
}
before=$(tokens)
expect "twenty runs are well" "20" "$(twenty es)"
expect "they ask once" "$((before + 1))" "$(tokens)"

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
        expect "renewed with rotation, round $round" "0 healthy" "$(verdict "$fhirctl" portal)"
    done
    # Whoever shows a refresh token a second time loses the sign-in: renewing is for one at a time.
    sleep 2.1
    before=$(renewals) asked=$(tokens)
    expect "twenty runs with a token that has ended" "20" "$(twenty portal)"
    expect "every renewal was granted" "$(($(tokens) - asked))" "$(($(renewals) - before))"
    code=0
    "$fhirctl" check portal >/dev/null || code=$?
    expect "the sign-in survived them" "0" "$code"
    curl -s "$state?end=1" >/dev/null
    sleep 2.1
    expect "a sign-in that the provider ended" "77 auth.token_expired" "$(verdict "$fhirctl" portal)"
    expect "nothing secret was told" "0" "$(cat ./*.told.json ./*.errors login.json login.err | grep -cF -f age.key -e 'the secret+of' -e 'PRIVATE KEY' || true)"
else
    say "no chromium: the login in a browser was not tried"
fi

# A server that checks tokens itself, where its binary is.
if [ -x "${HFS_BINARY:-$cache/helios/bin/hfs}" ]; then
    HFS_AUTH_ENABLED=true HFS_AUTH_JWKS_URL=$issuer/jwks HFS_AUTH_ISSUER=$issuer HFS_AUTH_AUDIENCE=urn:fhir \
        HFS_SMART_TOKEN_ENDPOINT=$issuer/token FHIRCTL_COUNTERPARTS=$cache \
        "$here/helios/start.sh" >helios.json </dev/null &
    helios=$!
    for _ in $(seq 600); do
        [ -s helios.json ] || ! kill -0 "$helios" 2>/dev/null || sleep 0.1
    done
    url=$(jq -r .url helios.json)
    cat >servers.yaml <<YAML
version: 1
servers:
  - {name: helios, url: "$url", auth: {method: smart-backend, client_id: es, key: "file:es.pem", token_url: "$issuer/token", scopes: [system/Patient.rs]}, checks: {search: ["Patient?_summary=count"]}}
  - {name: helios-without, url: "$url", checks: {search: ["Patient?_summary=count"]}}
  - {name: helios-narrow, url: "$url", auth: {method: smart-backend, client_id: es, key: "file:es.pem", token_url: "$issuer/token", scopes: [system/Observation.rs]}, checks: {search: ["Patient?_summary=count"]}}
YAML
    expect "Helios: auth test" "0 healthy" "$(verdict "$fhirctl" helios)"
    tested() { # NAME: exit code and reason of test
        local code=0
        "$fhirctl" -o json test "$1" >tested.json || code=$?
        jq -r --arg code "$code" '"\($code) \(.server.code // .server.status)"' tested.json
    }
    expect "Helios: test, from end to end" "0 healthy" "$(tested helios)"
    expect "Helios: without a sign-in" "2 auth.unauthorized" "$(tested helios-without)"
    expect "Helios: a token for something else" "2 auth.forbidden" "$(tested helios-narrow)"
else
    say "not used: Helios FHIR Server, whose binary is not there (see helios/start.sh)"
fi

echo
echo "used: oidc-provider $(jq -r .version "$folder/node_modules/oidc-provider/package.json")${browser:+, $("$browser" --version 2>/dev/null)}"
conclude
