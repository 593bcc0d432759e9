#!/usr/bin/env bash
# page.sh BINARY FILE [FOLDER]: a page of `report -o html`, opened in Chromium in light and dark, narrow and
# for print, and judged by axe-core. FOLDER keeps a picture of each, to be looked at.
# Ends with 0 only when every line says PASS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fhirctl=$(realpath "${1:?usage: page.sh BINARY FILE [FOLDER]}")
page=$(realpath "${2:?usage: page.sh BINARY FILE [FOLDER]}")
pictures=${3:+$(realpath "$3")}

browser=$(command -v chromium || command -v chromium-browser || true)
if [ -z "$browser" ]; then
    say "no chromium: the page cannot be opened"
    exit 1
fi
folder=$(install_once page "$here/page/package-lock.json" npm_ci "$here/page")
desk=$(mktemp -d)
trap 'rm -rf "$desk"' EXIT

if ! (cd "$folder" && node "$here/page/check.mjs" "$page" "$browser" "$desk/profile" "$pictures") >"$desk/told"; then
    cat "$desk/told"
    say "the page could not be judged"
    exit 1
fi
while IFS=$'\x1f' read -r what wanted found; do
    expect "$what" "$wanted" "$found"
done <"$desk/told"
expect "all was judged" "yes" "$([ "$(wc -l <"$desk/told")" -ge 30 ] && echo yes || echo no)"
echo
echo "used: $("$fhirctl" --version), axe-core $(jq -r .version "$folder/node_modules/axe-core/package.json"), $("$browser" --version 2>/dev/null)"
conclude
