#!/usr/bin/env bash
# tls.sh BINARY: how long a scan of one server takes, against sslyze (PyPI), and with how many connections, against
# testssl.sh (Debian) where it is installed. Ends with 1 when a figure is missed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$bench/../tests/counterparts/lib.sh"
fhirctl=$(realpath "${1:?usage: tls.sh BINARY}")
require nginx nginx-light
require jq jq
lock="$bench/../tests/counterparts/tls/requirements.txt"
python="$(install_once tls "$(realpath "$lock")" python_packages "$(realpath "$lock")")/bin/python"

# Two servers: one as nginx comes, and one that offers every suite of every version. Each handshake tells one pair of
# the two, so that the second is held against their number.
port=$(free_port)
every=$(free_port)
counter=$(free_port)
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$desk/key.pem" -out "$desk/own.pem" -days 2 \
    -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 2>/dev/null
cat >"$desk/nginx.conf" <<CONF
daemon off;
pid $desk/nginx.pid;
error_log $desk/nginx.log crit;
worker_processes 1;
events {}
http {
  access_log off;
  client_body_temp_path $desk/body;
  proxy_temp_path $desk/proxy;
  fastcgi_temp_path $desk/fastcgi;
  uwsgi_temp_path $desk/uwsgi;
  scgi_temp_path $desk/scgi;
  server {
    listen 127.0.0.1:$port ssl;
    ssl_certificate $desk/own.pem;
    ssl_certificate_key $desk/key.pem;
    location / { return 200 '{}'; }
  }
  server {
    listen 127.0.0.1:$every ssl;
    ssl_certificate $desk/own.pem;
    ssl_certificate_key $desk/key.pem;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
    ssl_ciphers ALL:@SECLEVEL=0;
    location / { return 200 '{}'; }
  }
  server {
    listen 127.0.0.1:$counter;
    location / { stub_status; }
  }
}
CONF
nginx -c "$desk/nginx.conf" -e "$desk/nginx.log" &
started+=($!)
cat >"$desk/servers.yaml" <<YAML
version: 1
servers:
  - {name: s, url: "https://127.0.0.1:$port/fhir", tls: {ca: "$desk/own.pem"}}
  - {name: every-suite, url: "https://127.0.0.1:$every/fhir", tls: {ca: "$desk/own.pem"}}
YAML
for _ in $(seq 100); do
    curl -sk -o /dev/null "https://127.0.0.1:$every/" && break
    sleep 0.05
done

name=s
ours() {
    "$fhirctl" -i "$desk/servers.yaml" -o json --no-progress diag "$name" tls >"$desk/ours.json" || [ $? -le 3 ]
}
theirs() {
    "$python" -m sslyze --json_out "$desk/theirs.json" --sslv3 --tlsv1 --tlsv1_1 --tlsv1_2 --tlsv1_3 \
        --certinfo --reneg --compression --elliptic_curves --resum "127.0.0.1:$port" >/dev/null 2>&1
}
# best NAME: the best of three, in milliseconds.
best() {
    local least=999999 begun took
    for _ in 1 2 3; do
        begun=$(date +%s%N)
        "$1"
        took=$((($(date +%s%N) - begun) / 1000000))
        [ "$took" -ge "$least" ] || least=$took
    done
    echo "$least"
}
# How many connections the server has taken since it began, this one not.
accepted() {
    echo $(($(curl -q -s "http://127.0.0.1:$counter/" | awk 'NR == 3 { print $1 }') - 1))
}
ratio() { awk "BEGIN { printf \"%.3f\", $1 / $2 }"; }
against() { # NAME PORT
    name=$1
    port=$2
    local mine other before between after pairs
    mine=$(best ours)
    other=$(best theirs)
    pairs=$(jq '[.topics[0].details.protocols[].suites | length] | add' "$desk/ours.json")
    printf '%s: fhirctl %d ms, sslyze %d ms; %d pairs of version and suite\n' "$name" "$mine" "$other" "$pairs"
    judge "$name: time, of sslyze's" "$(ratio "$mine" "$other")" 1 x
    if ! command -v testssl >/dev/null; then
        echo "testssl.sh is not there: apt-get install testssl.sh"
        return
    fi
    before=$(accepted)
    ours
    between=$(accepted)
    timeout 900 testssl --quiet --color 0 --warnings off "127.0.0.1:$port" >"$desk/testssl.out" 2>&1 </dev/null || true
    after=$(accepted)
    printf '%s: fhirctl %d connections, testssl.sh %d\n' "$name" $((between - before - 1)) $((after - between - 1))
    if [ "$name" = s ]; then
        judge "$name: connections, of testssl.sh's" "$(ratio $((between - before - 1)) $((after - between - 1)))" 0.2 x
    else
        judge "$name: connections, of its pairs" "$(ratio $((between - before - 1)) "$pairs")" 1.5 x
    fi
}
against s "$port"
against every-suite "$every"
[ "$missed" = 0 ]
