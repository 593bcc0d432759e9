# What the benches share. It is sourced, not run.
# shellcheck shell=bash

bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
desk=$(mktemp -d)
started=()
finish() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    rm -rf "$desk"
}
trap finish EXIT
trap 'exit 130' INT TERM
# Nothing of the caller's own surroundings.
for name in $(compgen -e); do
    [[ $name == FHIRCTL_* ]] && unset "$name"
done
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy
export XDG_CONFIG_HOME="$desk/config" XDG_STATE_HOME="$desk/state"

require() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || {
        echo "$1 is missing: apt-get install --no-install-recommends $2" >&2
        exit 1
    }
}

free_port() {
    python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])'
}

# The page on one port of every address of 127/8; sets `port`.
serve_page() {
    require nginx nginx-light
    require jq jq
    mkdir -p "$desk/www"
    python3 "$bench/statement.py" 90000 >"$desk/www/metadata"
    port=$(free_port)
    cat >"$desk/nginx.conf" <<CONF
daemon off;
pid $desk/nginx.pid;
error_log $desk/nginx.log crit;
worker_processes 1;
worker_rlimit_nofile 20000;
events { worker_connections 8192; }
http {
  access_log off;
  sendfile on;
  open_file_cache max=16;
  client_body_temp_path $desk/body;
  proxy_temp_path $desk/proxy;
  fastcgi_temp_path $desk/fastcgi;
  uwsgi_temp_path $desk/uwsgi;
  scgi_temp_path $desk/scgi;
  server {
    # A listener of each address would be ten thousand of them; nobody else gets an answer.
    listen $port backlog=4096;
    allow 127.0.0.0/8;
    deny all;
    default_type application/fhir+json;
    root $desk/www;
  }
}
CONF
    chmod -R a+rX "$desk"
    nginx -p "$desk" -e "$desk/nginx.log" -c "$desk/nginx.conf" </dev/null &
    started+=($!)
    for _ in $(seq 100); do
        curl -sf -o /dev/null -m 2 "http://127.0.0.1:$port/metadata" && return
        sleep 0.1
    done
    cat "$desk/nginx.log" >&2
    exit 1
}

missed=0
judge() { # WHAT SEEN LIMIT UNIT: the seen value has to be at most the limit
    if jq -en --argjson seen "$2" --argjson limit "$3" '$seen <= $limit' >/dev/null; then
        printf 'PASS    %-58s %9.2f%s (at most %s%s)\n' "$1" "$2" "$4" "$3" "$4"
    else
        printf 'MISSED  %-58s %9.2f%s (at most %s%s)\n' "$1" "$2" "$4" "$3" "$4"
        missed=$((missed + 1))
    fi
}
