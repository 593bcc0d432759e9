"""matrix.py BINARY FOLDER [CASES]: one server after the other, seen by `diag NAME tls` and by sslyze."""

import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time

binary, folder = sys.argv[1:3]
here = os.path.dirname(os.path.abspath(__file__))
tls = os.path.join(folder, "tls")
VERSIONS = {
    "SSLv3": "ssl_3_0",
    "TLSv1.0": "tls_1_0",
    "TLSv1.1": "tls_1_1",
    "TLSv1.2": "tls_1_2",
    "TLSv1.3": "tls_1_3",
}
# All that prove who the server is.
ALL = "ALL:!aNULL:!eNULL:@SECLEVEL=0"


def s_server(certificate, *options, chain=None, cipher=ALL):
    more = ["-cert_chain", f"{tls}/{chain}"] if chain else []
    return lambda port: [
        "openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-www", "-quiet",
        "-cert", f"{tls}/{certificate}.pem", "-key", f"{tls}/{certificate}.key",
        "-cipher", cipher, *more, *options,
    ]  # fmt: skip


def nginx(certificate, *settings):
    def command(port):
        path = os.path.join(folder, f"nginx-{port}.conf")
        lines = "".join(f"    {setting};\n" for setting in settings)
        own = os.path.join(folder, f"nginx-{port}")
        os.makedirs(own, exist_ok=True)
        temporary = "".join(
            f"  {kind}_temp_path {own}/{kind};\n"
            for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        )
        with open(path, "w") as file:
            file.write(
                f"daemon off;\nmaster_process off;\npid {own}/pid;\nerror_log {own}/log crit;\n"
                f"events {{}}\nhttp {{\n  access_log off;\n{temporary}  server {{\n"
                f"    listen 127.0.0.1:{port} ssl;\n"
                f"    ssl_certificate {tls}/{certificate};\n"
                f"    ssl_certificate_key {tls}/{certificate.split('.')[0]}.key;\n"
                f"{lines}    location / {{ return 200 '{{}}'; }}\n  }}\n}}\n"
            )
        return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", path, "-e", f"{own}/log"]

    return command


def tlslite(certificate, oldest, newest, ciphers):
    return lambda port: [
        sys.executable, f"{here}/old_server.py", str(port), f"{tls}/good.key",
        f"{tls}/{certificate}", str(oldest), str(newest), ciphers,
    ]  # fmt: skip


MIDDLE = "middle.pem"
# Name, server, our code, our grade, part of our message.
CASES = [
    ("1.3 only", s_server("good", "-tls1_3", chain=MIDDLE), None, "A", ""),
    ("1.2 only", s_server("good", "-tls1_2", chain=MIDDLE), None, "A-", ""),
    ("1.2 and 1.3, strong suites", nginx("good.chain", "ssl_protocols TLSv1.2 TLSv1.3",
        "ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20", "ssl_prefer_server_ciphers on",
        "add_header Strict-Transport-Security 'max-age=63072000'"), None, "A+", ""),
    ("1.0 and 1.1 only", s_server("good", "-no_tls1_2", "-no_tls1_3", chain=MIDDLE),
        "tls.protocol", "C", "TLSv1.0 and TLSv1.1"),
    ("SSLv3 and 1.0", tlslite("good.chain", 0, 1, "aes128,3des"), "tls.protocol", "C", "SSLv3"),
    ("RC4 and 3DES", tlslite("good.chain", 1, 3, "aes128gcm,aes128,3des,rc4"), None, "C", ""),
    ("key of 1024 bits", s_server("short", chain=MIDDLE), "tls.untrusted", None, "1024 bits"),
    ("SHA-1 signature", s_server("sha1", chain=MIDDLE), "tls.untrusted", None, "SHA1"),
    ("missing intermediate", s_server("good"), "tls.untrusted", "T", "http://aia.example/middle.cer"),
    ("wrong order", nginx("mixed.chain", "ssl_protocols TLSv1.2 TLSv1.3"),
        None, "B", ""),
    ("expired", s_server("expired", chain=MIDDLE), "tls.expired", "T", ""),
    ("wrong name", s_server("other", chain=MIDDLE), "tls.hostname_mismatch", "M", ""),
    ("self-signed", s_server("own"), "tls.self_signed", "T", ""),
    ("stapling", s_server("good", "-status_file", f"{tls}/good.ocsp", chain=MIDDLE), None, None, ""),
    ("client certificate", s_server("good", "-tls1_2", "-Verify", "1", "-CAfile", f"{tls}/root.pem",
        chain=MIDDLE), "tls.client_certificate_required", None, ""),
    ("DHE of 1024 bits", s_server("good", "-tls1_2", "-dhparam", f"{tls}/dh1024.pem", chain=MIDDLE,
        cipher="DHE:@SECLEVEL=0"), "tls.protocol", "B", "ECDHE and AEAD"),
    ("no forward secrecy", s_server("good", "-tls1_2", chain=MIDDLE, cipher="kRSA:!eNULL:@SECLEVEL=0"),
        "tls.protocol", "B", "ECDHE and AEAD"),
    ("elliptic key", s_server("curve", chain=MIDDLE), None, "B", ""),
    ("anonymous and NULL", s_server("good", "-tls1_2", chain=MIDDLE, cipher="aNULL:eNULL:@SECLEVEL=0"),
        "tls.protocol", "F", "ECDHE and AEAD"),
]  # fmt: skip

# Suites that sslyze does not ask for.
UNKNOWN = {
    "TLS_DH_anon_WITH_CAMELLIA_128_CBC_SHA256",
    "TLS_DH_anon_WITH_CAMELLIA_256_CBC_SHA256",
}

HIDDEN = "TLS 1.3 hides it from a scan that never finishes a handshake; ours says so, with null"
# What the two see differently, and why that is right. The key: case (or "*") and fact.
EXPLAINED = {
    ("anonymous and NULL", "all"): "it begins with an ordinary handshake, and finds no suite for one",
    ("1.3 only", "stapling"): HIDDEN,
    ("1.3 only", "client certificate"): HIDDEN,
    ("1.3 only", "renegotiation"): HIDDEN,
}


def ours(port):
    inventory = os.path.join(folder, "servers.yaml")
    with open(inventory, "w") as file:
        file.write(
            "version: 1\nservers:\n  - name: s\n"
            f"    url: https://127.0.0.1:{port}/fhir\n    tls: {{ca: {tls}/root.pem}}\n"
            "    timeouts: {connect: 5s, read: 5s, total: 30s}\n"
        )
    run = subprocess.run(
        [binary, "-i", inventory, "-o", "json", "--no-progress", "diag", "s", "tls"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode > 3:
        sys.exit(f"diag: {run.returncode}: {run.stderr}")
    return json.loads(run.stdout)


def facts_of_ours(topic):
    details = topic["details"]
    facts = {}
    for protocol in details["protocols"]:
        names = {suite["name"] for suite in protocol["suites"]} - UNKNOWN
        facts[protocol["version"]] = sorted(names)
    chain = details["chains"][0]["certificates"] if details["chains"] else []
    facts["chain"] = [certificate["sha256"] for certificate in chain]
    facts["order"] = details["chains"][0]["in_order"] if details["chains"] else None
    traits = details["traits"]
    facts["stapling"] = traits and traits["ocsp_stapling"]
    facts["client certificate"] = traits and traits["client_certificate"] is not None
    facts["renegotiation"] = traits and traits["secure_renegotiation"]
    facts["compression"] = details["compression"]
    # sslyze looks for elliptic curves only.
    groups = set(details["groups_tls12"] + details["groups_tls13"])
    facts["groups"] = sorted(group for group in groups if not group.startswith("ffdhe"))
    return facts


def theirs(port):
    path = os.path.join(folder, "sslyze.json")
    subprocess.run(
        [sys.executable, "-m", "sslyze", "--json_out", path, "--sslv3", "--tlsv1", "--tlsv1_1",
         "--tlsv1_2", "--tlsv1_3", "--certinfo", "--reneg", "--compression", "--elliptic_curves", "--sni", "localhost",
         f"127.0.0.1:{port}"],
        capture_output=True, check=False,
    )  # fmt: skip
    with open(path) as file:
        found = json.load(file)["server_scan_results"][0]
    if not found["scan_result"]:
        return None
    scan = {name: one["result"] for name, one in found["scan_result"].items() if one["result"]}
    facts = {}
    for version, name in VERSIONS.items():
        suites = scan.get(f"{name}_cipher_suites")
        accepted = suites and suites["accepted_cipher_suites"]
        facts[version] = accepted and sorted(one["cipher_suite"]["name"] for one in accepted)
        facts[version] = facts[version] if suites is None else facts[version] or []
    deployments = (scan.get("certificate_info") or {}).get("certificate_deployments")
    if deployments:
        der = [ssl.PEM_cert_to_DER_cert(one["as_pem"]) for one in deployments[0]["received_certificate_chain"]]
        facts["chain"] = [hashlib.sha256(one).hexdigest() for one in der]
        facts["order"] = deployments[0]["received_chain_has_valid_order"]
        facts["stapling"] = deployments[0]["ocsp_response"] is not None
    demand = found["connectivity_result"]["client_auth_requirement"]
    facts["client certificate"] = demand != "DISABLED"
    if "session_renegotiation" in scan:
        facts["renegotiation"] = scan["session_renegotiation"]["supports_secure_renegotiation"]
    if "tls_compression" in scan:
        facts["compression"] = scan["tls_compression"]["supports_compression"]
    curves = scan.get("elliptic_curves")
    if curves and curves["supported_curves"] is not None:
        renamed = {"X25519": "x25519", "X448": "x448", "prime256v1": "secp256r1", "prime192v1": "secp192r1"}
        facts["groups"] = sorted(renamed.get(one["name"], one["name"]) for one in curves["supported_curves"])
    return facts


def started(command, port):
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return server
        except OSError:
            time.sleep(0.05)
    server.kill()
    sys.exit(f"does not start: {command}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


failed = 0


def told(good, words):
    global failed
    failed += not good
    print(f"{'PASS' if good else 'FAIL'}    {words}", flush=True)


only = re.compile(sys.argv[3] if len(sys.argv) > 3 else "")
for name, command, code, grade, words in CASES:
    if not only.search(name):
        continue
    port = free_port()
    server = started(command(port), port)
    try:
        found = ours(port)
        topic, verdict = found["topics"][0], found["verdict"]
        mine, other = facts_of_ours(topic), theirs(port)
    finally:
        server.kill()
        server.wait()
    rating = topic["details"]["rating"]
    judged = code is None or topic["code"] == code
    judged = judged and (grade is None or rating["grade"] == grade) and words in topic["message"]
    told(judged, f"{name}: {topic['code']}, graded {rating and rating['grade']}: {topic['message']}")
    if code:
        party = "ours" if name == "client certificate" else "vendor"
        named = (verdict["layer"], verdict["party"], verdict["code"])
        told(named == ("tls", party, code), f"{name}: the verdict names {named}")
    if other is None:
        told((name, "all") in EXPLAINED, f"{name}: sslyze sees nothing ({EXPLAINED.get((name, 'all'))})")
        continue
    same = []
    for fact, value in other.items():
        seen = mine[fact]
        why = EXPLAINED.get((name, fact)) or EXPLAINED.get(("*", fact))
        if seen == value:
            same.append(fact)
        elif why:
            print(f"        {name}: {fact} differs: {why}")
        else:
            def only_in(a, b):
                return sorted(set(a) - set(b)) if isinstance(a, list) and isinstance(b, list) else a
            told(False, f"{name}: {fact}: ours {only_in(seen, value)}, sslyze {only_in(value, seen)}")
    told(bool(same), f"{name}: both see the same: {', '.join(same)}")
sys.exit(1 if failed else 0)
