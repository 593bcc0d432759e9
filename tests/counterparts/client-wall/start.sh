#!/usr/bin/env bash
# client-wall/start.sh CERTIFICATE KEY AUTHORITY: without a client's certificate the handshake ends with
# an alert (nginx says the same in HTTP).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
scheme=https serve client-wall python3 "$here/server.py" "$@"
