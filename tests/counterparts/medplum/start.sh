#!/usr/bin/env bash
# Medplum's FHIR router (R4). Its /metadata answers 200 with a Bundle.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
folder=$(install_once medplum "$here/package-lock.json" npm_ci "$here")
cd "$folder"
serve medplum node "$here/server.mjs"
