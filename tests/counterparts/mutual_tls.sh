#!/usr/bin/env bash
# mutual_tls.sh BINARY: nginx lets in who shows a certificate of its authority that has neither ended
# nor been revoked; what `auth test` says of each kind of certificate, as PEM and as PKCS#12.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "${1:?usage: mutual_tls.sh BINARY}")

desk=$(mktemp -d)
master=
trap '[ -z "$master" ] || kill "$master" 2>/dev/null || true; wait; rm -rf "$desk"' EXIT
trap 'exit 130' INT TERM
for name in $(compgen -e); do
    [[ $name == FHIRCTL_* && $name != FHIRCTL_COUNTERPARTS ]] && unset "$name"
done
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy SSL_CERT_FILE SSL_CERT_DIR
export XDG_CONFIG_HOME="$desk/config" XDG_STATE_HOME="$desk/state" NO_COLOR=1
"$here/nginx/certificates.sh" "$desk/tls"
cd "$desk"
umask 077

printf 'open sesame\n' >right
printf 'shut sesame\n' >wrong
printf '' >nothing
pack() { # NAME PASSWORD-FILE OUTPUT OPTION…
    local name=$1 password=$2 output=$3
    shift 3
    openssl pkcs12 -export -inkey "tls/$name.key" -in "tls/$name.pem" -certfile tls/ca.pem \
        -passout "file:$password" -out "$output" "$@"
}
pack client right client.p12
pack revoked-client right revoked.p12
# What Windows and older Java write.
pack client right old.p12 -legacy
echo >empty
pack client empty empty.p12

configuration() { # PORT PORT PORT
    local statement='{"resourceType":"CapabilityStatement","status":"active","date":"2026-01-01","kind":"instance","implementation":{"description":"counterpart"},"fhirVersion":"4.0.1","format":["json"],"rest":[{"mode":"server","resource":[{"type":"Patient","interaction":[{"code":"search-type"}]}]}]}'
    cat <<CONF
daemon off;
pid $desk/nginx.pid;
error_log $desk/error.log warn;
worker_processes 1;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path $desk/body;
  proxy_temp_path $desk/proxy;
  fastcgi_temp_path $desk/fastcgi;
  uwsgi_temp_path $desk/uwsgi;
  scgi_temp_path $desk/scgi;
  ssl_certificate tls/good.pem;
  ssl_certificate_key tls/good.key;
  ssl_client_certificate tls/ca.pem;
  ssl_crl tls/ca.crl;
  default_type application/fhir+json;
CONF
    local answers="location /fhir/metadata { return 200 '$statement'; } location /fhir/Patient { return 200 '{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"total\":0}'; }"
    cat <<CONF
  server { listen 127.0.0.1:$1 ssl; ssl_protocols TLSv1.2; ssl_verify_client on; $answers }
  server { listen 127.0.0.1:$2 ssl; ssl_protocols TLSv1.3; ssl_verify_client on; $answers }
  # Leaves the verdict to what stands behind it, which answers in its own way.
  server { listen 127.0.0.1:$3 ssl; ssl_verify_client optional; if (\$ssl_client_verify != SUCCESS) { return 403; } $answers }
}
CONF
}

for _ in 1 2 3; do
    read -r tls12 tls13 optional <<<"$(free_ports 3)"
    configuration "$tls12" "$tls13" "$optional" >nginx.conf
    nginx -p "$desk" -e "$desk/error.log" -c "$desk/nginx.conf" >&2 </dev/null &
    master=$!
    for _ in $(seq 100); do
        kill -0 "$master" 2>/dev/null || break
        curl -sk -o /dev/null -m 2 "https://127.0.0.1:$tls12/" && break 2
        sleep 0.1
    done
    kill "$master" 2>/dev/null || true
    cat error.log >&2
done
kill -0 "$master"

pem() { # NAME
    echo "{certificate: tls/$1.pem, key: \"file:tls/$1.key\"}"
}
# name | port | client certificate | expected
rejected=tls.client_certificate_rejected
cases=(
    "good-tls-1-2|$tls12|$(pem client)|0 healthy"
    "good-tls-1-3|$tls13|$(pem client)|0 healthy"
    "good-optional|$optional|$(pem client)|0 healthy"
    "expired-tls-1-2|$tls12|$(pem expired-client)|69 tls.expired"
    "expired-tls-1-3|$tls13|$(pem expired-client)|69 tls.expired"
    "revoked-tls-1-2|$tls12|$(pem revoked-client)|69 $rejected"
    "revoked-tls-1-3|$tls13|$(pem revoked-client)|69 $rejected"
    "revoked-optional|$optional|$(pem revoked-client)|69 $rejected"
    "foreign-tls-1-3|$tls13|$(pem foreign-client)|69 $rejected"
    "other-key|$tls13|{certificate: tls/client.pem, key: \"file:tls/good.key\"}|69 $rejected"
    "pkcs12|$tls13|{pkcs12: client.p12, password: \"file:right\"}|0 healthy"
    "pkcs12-old-algorithms|$tls12|{pkcs12: old.p12, password: \"file:right\"}|0 healthy"
    "pkcs12-without-password|$tls12|{pkcs12: empty.p12}|0 healthy"
    "pkcs12-wrong-password|$tls13|{pkcs12: client.p12, password: \"file:wrong\"}|69 $rejected"
    "pkcs12-revoked|$tls13|{pkcs12: revoked.p12, password: \"file:right\"}|69 $rejected"
)
{
    echo 'version: 1'
    echo 'servers:'
    for case in "${cases[@]}"; do
        IFS='|' read -r name port certificate _ <<<"$case"
        echo "  - {name: $name, url: \"https://127.0.0.1:$port/fhir\", auth: {method: mtls}, tls: {ca: tls/ca.pem, client_certificate: $certificate}}"
    done
} >servers.yaml

for case in "${cases[@]}"; do
    IFS='|' read -r name _ _ expected <<<"$case"
    expect "nginx: $name" "$expected" "$(verdict "$fhirctl" "$name")"
done
says() { # NAME TEXT: whether the message has the words
    jq -r --arg text "$2" '.server.message // "" | if contains($text) then $text else . end' "$1.told.json"
}
expect "our own expired certificate is told as such" "expired" "$(says expired-tls-1-3 expired)"
expect "a wrong password is told as such" "password" "$(says pkcs12-wrong-password password)"
expect "no secret in what is told" "0" "$(cat ./*.told.json ./*.errors | grep -c sesame || true)"

echo
echo "used: $(nginx -v 2>&1 | sed 's/.*: //'), $(openssl version)"
conclude
