#!/usr/bin/env bash
# cloud_sign_in.sh BINARY: requests to the token endpoints of Google and of Microsoft are those that
# google-auth and msal send, but for what cloud/compare.py lists with a reason.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "${1:?usage: cloud_sign_in.sh BINARY}")
lock="$here/cloud/requirements.txt"
folder=$(install_once cloud "$lock" python_packages "$lock")
desk=$(mktemp -d)
trap 'rm -rf "$desk"' EXIT
trap 'exit 130' INT TERM
umask 077
"$folder/bin/python" "$here/cloud/compare.py" "$fhirctl" "$desk"
