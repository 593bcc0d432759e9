"""consume.py FORMAT FILE JSON: reads a check's output as its consumer does, and holds it against the
same fleet's JSON. Prints nothing and ends with 0 when they say the same."""

import csv
import json
import re
import sys
import xml.etree.ElementTree as ElementTree

STATES = {0: "OK", 1: "WARNING", 2: "CRITICAL", 3: "UNKNOWN"}


def same(what, seen, expected):
    if seen != expected:
        sys.exit(f"{what}: {seen!r}, expected {expected!r}")


def checks_of(document):
    """Server, check, status and code of every row, in order."""
    return [
        (server["name"], check["name"], check["status"], check["code"] or "")
        for server in document["servers"]
        for check in server["checks"]
    ]


def keys(value):
    """The shape: keys at every depth; what was measured differs from run to run."""
    if isinstance(value, dict):
        return {key: keys(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [keys(inner) for inner in value]
    return None


def read_yaml(path, document):
    import yaml

    with open(path, encoding="utf-8") as file:
        seen = yaml.safe_load(file)
    same("rows", checks_of(seen), checks_of(document))
    same("summary", seen["summary"], document["summary"])
    same("shape", keys(seen), keys(document))


def read_ndjson(path, document):
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file.read().splitlines()]
    same("schemas", {line["schema"] for line in lines}, {"fhirctl/check-server/v1"})
    same("rows", checks_of({"servers": lines}), checks_of(document))


def read_csv(path, document):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, strict=True))
    same("header", rows[0], ["server", "check", "status", "code", "duration_ms", "message"])
    same("widths", {len(row) for row in rows}, {6})
    same("rows", [tuple(row[:4]) for row in rows[1:]], checks_of(document))
    for row in rows[1:]:
        float(row[4])
        if row[5][:1] in ("=", "+", "-", "@"):
            sys.exit(f"a spreadsheet would run this: {row}")


def read_markdown(path, document):
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file.read().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    same("widths", {len(row) for row in rows}, {6})
    same("rule", set("".join(rows[1])), {"-"})
    same("rows", len(rows) - 2, len(checks_of(document)))


def read_junit(path, document):
    root = ElementTree.parse(path).getroot()
    cases = [
        (suite.get("name"), case.get("name")) for suite in root for case in suite.iter("testcase")
    ]
    same("cases", cases, [row[:2] for row in checks_of(document)])
    for kind in ("failures", "errors"):
        tag = kind[:-1]
        same(f"{kind} of the whole", int(root.get(kind)), len(list(root.iter(tag))))
        for suite in root:
            same(f"{kind} of {suite.get('name')}", int(suite.get(kind)), len(list(suite.iter(tag))))
    same("tests of the whole", int(root.get("tests")), len(cases))
    for server, suite in zip(document["servers"], root):
        for check, case in zip(server["checks"], suite.iter("testcase")):
            expected = {"healthy": None, "warning": "failure", "critical": "failure", "unknown": "error"}[
                check["status"]
            ]
            if server["state"] == "maintenance" or check["code"] in ("check.skipped", "check.not_applicable"):
                expected = "skipped"
            seen = [element.tag for element in case if element.tag != "system-out"]
            same(f"{server['name']} {check['name']}", seen, [expected] if expected else [])


NUMBER = r"-?\d+(?:\.\d+)?"
RANGE = rf"(?:@?(?:~:|{NUMBER}:)?(?:{NUMBER})?)"
DATUM = re.compile(
    rf"(?:'(?:[^'=]|'')+'|[^\s'=]+)={NUMBER}(?:s|us|ms|%|B|KB|MB|GB|TB|c)?(?:;{RANGE}){{0,2}}(?:;(?:{NUMBER})?){{0,2}}(?=\s|$)"
)


def read_nagios(path, document):
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    if not text.endswith("\n") or text.count("\n") != 1:
        sys.exit("not one line")
    parts = text.rstrip("\n").split("|")
    if len(parts) > 2:
        sys.exit("more than one bar")
    state = parts[0].split(" - ", 1)[0]
    same("state", state, STATES[document["exit_code"]])
    if len(parts) == 2:
        rest = DATUM.sub("", parts[1]).strip()
        same("not performance data", rest, "")
        if not DATUM.search(parts[1]):
            sys.exit("a bar without performance data")


def read_openmetrics(path, document):
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    same("end", lines[-1], "# EOF")
    success = {
        re.search(r'server="([^"]*)"', line).group(1): float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith("probe_success{")
    }
    expected = {
        server["name"]: float(server["status"] in ("healthy", "warning")) for server in document["servers"]
    }
    same("probe_success", success, expected)
    families = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    for name in ("probe_success", "probe_duration_seconds", "probe_http_duration_seconds", "probe_ssl_earliest_cert_expiry"):
        if name not in families:
            sys.exit(f"no family {name}")
    if not any(line.startswith("probe_http_duration_seconds{") and 'phase="' in line for line in lines):
        sys.exit("no phases")


def read_table(path, document):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if "\x1b" in text:
        sys.exit("colour though this is no terminal")
    for server in document["servers"]:
        if server["name"] not in text:
            sys.exit(f"{server['name']} is not shown")


if __name__ == "__main__":
    name, path, reference = sys.argv[1:]
    with open(reference, encoding="utf-8") as file:
        globals()[f"read_{name}"](path, json.load(file))
