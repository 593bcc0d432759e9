#!/usr/bin/env bash
# node-fhir-server-core: STU3 at /3_0_1, R4 at /4_0_0.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
folder=$(install_once asymmetrik "$here/package-lock.json" npm_ci "$here")
export NODE_PATH="$folder/node_modules"
serve asymmetrik node "$here/server.js"
