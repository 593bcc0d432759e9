#!/usr/bin/env bash
# fhirstarter (R5).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
lock="$here/requirements.txt"
folder=$(install_once fhirstarter "$lock" python_packages "$lock")
serve fhirstarter "$folder/bin/python" "$here/server.py"
