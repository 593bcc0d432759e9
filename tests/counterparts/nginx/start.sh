#!/usr/bin/env bash
# nginx/start.sh UPSTREAM: nginx in front of a FHIR server, each port with a habit or an illness of
# its own. Prints {"name","url","pid","folder","servers":{NAME:URL}}; the folder holds the certificates.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
upstream=$1

folder=$(mktemp -d)
master=
trap '[ -z "$master" ] || kill "$master" 2>/dev/null || true; rm -rf "$folder"' EXIT
trap 'exit 0' TERM INT HUP
"$here/certificates.sh" "$folder/tls"

# The names are in the order in which the configuration below asks for ports.
tls_names=(good five-days expired not-yet wrong-host self-signed)
plain_names=(plain login-page unauthorized forbidden unavailable closed down outcome-error truncated)
other_names=(tls12 tls13 client-certificate)

configuration() { # PORT…
    cat <<CONF
daemon off;
pid $folder/nginx.pid;
error_log $folder/error.log warn;
worker_processes 1;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path $folder/body;
  proxy_temp_path $folder/proxy;
  fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi;
  scgi_temp_path $folder/scgi;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host \$http_host;
CONF
    for name in "${tls_names[@]}"; do
        echo "  server { listen 127.0.0.1:$1 ssl http2; ssl_certificate tls/$name.pem; ssl_certificate_key tls/$name.key; location / { proxy_pass $upstream; } }"
        shift
    done
    for name in "${plain_names[@]}"; do
        echo "  server { listen 127.0.0.1:$1; $(plain "$name") }"
        shift
    done
    local pair='ssl_certificate tls/good.pem; ssl_certificate_key tls/good.key;'
    cat <<CONF
  server { listen 127.0.0.1:$1 ssl; $pair ssl_protocols TLSv1.2; location / { proxy_pass $upstream; } }
  server { listen 127.0.0.1:$2 ssl; $pair ssl_protocols TLSv1.3; location / { proxy_pass $upstream; } }
  server { listen 127.0.0.1:$3 ssl; $pair ssl_client_certificate tls/ca.pem; ssl_verify_client on; location / { proxy_pass $upstream; } }
}
CONF
}

plain() { # NAME: what the server does
    local fhir='default_type application/fhir+json;'
    case $1 in
    plain) echo "location / { proxy_pass $upstream; }" ;;
    login-page) echo "default_type text/html; return 200 '<!DOCTYPE html><html><head><title>Sign in</title></head><body><form action=\"/login\"><input name=\"user\"></form></body></html>';" ;;
    unauthorized) echo "add_header WWW-Authenticate 'Bearer realm=\"fhir\"' always; return 401;" ;;
    forbidden) echo "return 403;" ;;
    unavailable) echo "add_header Retry-After 120 always; return 503;" ;;
    closed) echo "return 444;" ;;
    down) echo "location = /health { default_type application/json; return 200 '{\"status\":\"DOWN\"}'; } location / { proxy_pass $upstream; }" ;;
    outcome-error) echo "$fhir return 200 '{\"resourceType\":\"OperationOutcome\",\"issue\":[{\"severity\":\"error\",\"code\":\"exception\",\"diagnostics\":\"database is gone\"}]}';" ;;
    truncated) echo "$fhir return 200 '{\"resourceType\":\"CapabilityStatement\",\"fhirVersion\":\"4.0.1\",\"rest\":[{\"mo';" ;;
    esac
}

# Another process may take a port between the looking and the listening: then once more.
for _ in 1 2 3; do
    read -r -a ports <<<"$(free_ports $((${#tls_names[@]} + ${#plain_names[@]} + ${#other_names[@]})))"
    configuration "${ports[@]}" >"$folder/nginx.conf"
    nginx -p "$folder" -e "$folder/error.log" -c "$folder/nginx.conf" >&2 </dev/null &
    master=$!
    for _ in $(seq 100); do
        kill -0 "$master" 2>/dev/null || break
        curl -s -o /dev/null -m 2 "http://127.0.0.1:${ports[${#tls_names[@]}]}/" && break 2
        sleep 0.1
    done
    kill "$master" 2>/dev/null || true
    cat "$folder/error.log" >&2
done
kill -0 "$master"

at=0
servers=()
for name in "${tls_names[@]}" "${plain_names[@]}" "${other_names[@]}"; do
    scheme=https
    [[ " ${plain_names[*]} " == *" $name "* ]] && scheme=http
    servers+=("$name=$scheme://127.0.0.1:${ports[$at]}")
    at=$((at + 1))
done
jq -nc --argjson pid "$master" --arg folder "$folder/tls" '
    [$ARGS.positional[] | capture("^(?<key>[^=]+)=(?<value>.*)$")] | from_entries
    | {name: "nginx", url: .good, pid: $pid, folder: $folder, servers: .}' --args "${servers[@]}"
stand_by "$master"
