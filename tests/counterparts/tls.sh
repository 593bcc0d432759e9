#!/usr/bin/env bash
# tls.sh BINARY: `diag NAME tls` and sslyze look at the same servers, made with OpenSSL, nginx and tlslite-ng,
# and have to see the same. What differs for a reason stands in the table in tls/matrix.py.
# Ends with 0 only when every line says PASS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "${1:?usage: tls.sh BINARY}")
for name in $(compgen -e); do
    [[ $name == FHIRCTL_* && $name != FHIRCTL_COUNTERPARTS ]] && unset "$name"
done
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy SSL_CERT_FILE SSL_CERT_DIR
lock="$here/tls/requirements.txt"
python="$(install_once tls "$lock" python_packages "$lock")/bin/python"

desk=$(mktemp -d)
trap 'rm -rf "$desk"' EXIT
export XDG_CONFIG_HOME="$desk/config" XDG_STATE_HOME="$desk/state" NO_COLOR=1
"$here/tls/certificates.sh" "$desk/tls"
PYTHONDONTWRITEBYTECODE=1 "$python" "$here/tls/matrix.py" "$fhirctl" "$desk"
