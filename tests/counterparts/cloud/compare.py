"""Holds fhirctl's requests to token endpoints against those of google-auth and msal.

Arguments: the binary, and an empty folder. One endpoint on loopback records a request of the library
and one of fhirctl for each way of signing in. They have to be alike in everything but what ACCEPTED
lists with its reason, and each of those has to be there.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

for name in list(os.environ):
    if name.lower().endswith("_proxy") and name.lower() != "no_proxy":
        del os.environ[name]

BINARY, DESK = sys.argv[1], pathlib.Path(sys.argv[2])
TENANT = "5a9f0c7e-2f4b-4f55-9d62-0c1f0e6f2a11"
CLIENT = "0b6c8d54-7f43-4c3c-8a55-7a3f5b1f3e22"
LOGIN = "https://login.microsoftonline.com"
SCOPE = "https://www.googleapis.com/auth/cloud-healthcare"

# way of signing in -> what differs -> why that is right
CLIENT_INFO = {"form client_info": "asks who the user is, and an application has none"}
ACCEPTED = {
    "google-service-account": {
        "claim aud": "the library always writes the address of Google, which is what the key file names there",
    },
    "entra-secret": CLIENT_INFO,
    "entra-certificate": CLIENT_INFO | {
        "JWT header x5c": "only for trust by the certificate's subject, which fhirctl does not offer",
        "JWT header x5t#S256": "the library pads it; RFC 7515 has base64url without padding",
        "claim exp": "the library writes fractions of a second",
        "claim iat": "the library writes fractions of a second",
        "claim nbf": "Microsoft's description of the assertion has it, the library leaves it out",
        "life of the assertion in seconds": "shorter is safer; Microsoft's description names five to ten minutes",
    },
    "azure-app-service": {
        "header metadata": "App Service asks for X-IDENTITY-HEADER alone; the other is for virtual machines",
    },
}

STATEMENT = {
    "resourceType": "CapabilityStatement", "status": "active", "date": "2026-01-01", "kind": "instance",
    "fhirVersion": "4.0.1", "format": ["json"], "implementation": {"description": "counterpart"},
    "rest": [{"mode": "server", "resource": [{"type": "Patient", "interaction": [{"code": "search-type"}]}]}],
}

recorded = []


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, document, content_type="application/json"):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("metadata-flavor", "Google")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/fhir/metadata":
            return self.answer(200, STATEMENT, "application/fhir+json")
        if url.path.startswith("/fhir/"):
            if url.path.startswith("/fhir/.well-known/"):
                return self.answer(404, {})
            return self.answer(200, {"resourceType": "Bundle", "type": "searchset", "total": 0}, "application/fhir+json")
        if url.path.endswith("/service-accounts/default/"):
            return self.answer(200, {"email": "probe@example.iam.gserviceaccount.com", "scopes": [SCOPE]})
        if url.path in ("/", "/computeMetadata/v1/universe/universe-domain"):
            return self.answer(200, {})
        recorded.append((self.command, url.path, url.query, dict(self.headers), body))
        machine = url.path.startswith(("/metadata/", "/msi/"))
        life = "3600" if machine else 3600
        reply = {"access_token": "a-token", "token_type": "Bearer", "expires_in": life}
        if machine:
            reply |= {"expires_on": "4102444800", "resource": "r"}
        self.answer(200, reply)

    do_GET = do_POST = handle_any


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
HOST = f"127.0.0.1:{server.server_port}"
ORIGIN = f"http://{HOST}"
metadata = {"GCE_METADATA_HOST": HOST, "GCE_METADATA_IP": HOST}

# google-auth looks at these once, when it is loaded.
os.environ.update(metadata)
import google.auth.compute_engine
import google.auth.transport.requests
import google.oauth2.credentials
import google.oauth2.service_account
import jwt
import msal
import requests
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def part(text):
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def facts(request):
    """A request as flat facts; what is random or of the moment is told by its kind alone."""
    method, path, query, headers, body = request
    seen = {"method": method, "path": path}
    headers = {name.lower(): value for name, value in headers.items()}
    for name in ("content-type", "authorization", "metadata", "metadata-flavor", "x-identity-header"):
        if name in headers:
            seen[f"header {name}"] = headers[name].split(";")[0]
    for kind, text in (("query", query), ("form", body)):
        for name, values in urllib.parse.parse_qs(text, keep_blank_values=True).items():
            if len(values) > 1:
                seen[f"{kind} {name} comes"] = f"{len(values)} times"
            value = values[0]
            if name not in ("assertion", "client_assertion"):
                seen[f"{kind} {name}"] = value
                continue
            seen[f"{kind} {name}"] = "a JWT"
            head, claims, _ = value.split(".")
            head, claims = part(head), part(claims)
            jwt.decode(value, PUBLIC, algorithms=[head["alg"]], options={"verify_aud": False})
            seen["signature"] = "verifies"
            for key, item in head.items():
                seen[f"JWT header {key}"] = item
            for key, item in claims.items():
                moment = key in ("iat", "exp", "nbf", "jti")
                seen[f"claim {key}"] = type(item).__name__ if moment else item
            seen["life of the assertion in seconds"] = claims["exp"] - claims["iat"]
    return {name: str(value).replace(LOGIN, ORIGIN) for name, value in seen.items()}


def one_request(act):
    recorded.clear()
    act()
    assert len(recorded) == 1, f"{len(recorded)} requests to the token endpoint: {[r[:3] for r in recorded]}"
    return facts(recorded[0])


def fhirctl(name, auth, environment):
    """What `auth test` does, from nothing."""
    desk = DESK / name
    desk.mkdir()
    server = {"name": name, "url": f"{ORIGIN}/fhir", "auth": auth}
    (desk / "servers.yaml").write_text(json.dumps({"version": 1, "servers": [server]}))
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(desk), "NO_COLOR": "1"} | environment

    def act():
        done = subprocess.run(
            [BINARY, "-o", "json", "auth", "test", name],
            cwd=desk, env=surroundings, capture_output=True, text=True, timeout=60,
        )
        assert done.returncode == 0, f"auth test ended with {done.returncode}: {done.stdout[-1500:]}{done.stderr}"

    return act


class Redirected(requests.Session):
    """msal takes https alone: its requests go to the endpoint on loopback."""

    def request(self, method, url, **rest):
        if url.endswith("/.well-known/openid-configuration"):
            response = requests.Response()
            response.status_code = 200
            response._content = json.dumps({
                "issuer": f"{LOGIN}/{TENANT}/v2.0",
                "authorization_endpoint": f"{LOGIN}/{TENANT}/oauth2/v2.0/authorize",
                "token_endpoint": f"{LOGIN}/{TENANT}/oauth2/v2.0/token",
            }).encode()
            return response
        return super().request(method, url.replace(LOGIN, ORIGIN), **rest)


def entra(credential):
    def act():
        application = msal.ConfidentialClientApplication(
            CLIENT, client_credential=credential, authority=f"{LOGIN}/{TENANT}",
            http_client=Redirected(), instance_discovery=False,
        )
        answer = application.acquire_token_for_client([f"{ORIGIN}/fhir/.default"])
        assert "access_token" in answer, answer

    return act


def managed(identity, environment):
    def act():
        os.environ.update(environment)
        try:
            client = msal.ManagedIdentityClient(identity, http_client=requests.Session())
            answer = client.acquire_token_for_client(resource=f"{ORIGIN}/fhir")
            assert "access_token" in answer, answer
        finally:
            for name in environment:
                del os.environ[name]

    return act


def google_refresh(credentials):
    return lambda: credentials().refresh(google.auth.transport.requests.Request())


run = lambda *command: subprocess.run(command, check=True, capture_output=True, cwd=DESK)
run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=probe", "-keyout", "key.pem", "-out", "certificate.pem")
key, certificate = (DESK / "key.pem").read_text(), (DESK / "certificate.pem").read_text()
PUBLIC = load_pem_private_key(key.encode(), None).public_key()
account = {
    "type": "service_account", "project_id": "p", "private_key_id": "k1", "private_key": key,
    "client_email": "probe@example.iam.gserviceaccount.com", "client_id": "1", "token_uri": f"{ORIGIN}/google/token",
}
user = {
    "type": "authorized_user", "client_id": "c.apps.example.org", "client_secret": "s+/&=", "refresh_token": "r/1",
    "token_uri": f"{ORIGIN}/google/token",
}
for file, text in (("account.json", json.dumps(account)), ("user.json", json.dumps(user)), ("secret", "s+/&="), ("both.pem", key + certificate)):
    (DESK / file).write_text(text)
    (DESK / file).chmod(0o600)
at = lambda file: f"file:{DESK / file}"
azure = {"method": "azure", "tenant": TENANT, "client_id": CLIENT, "authority": ORIGIN}
app_service = {"IDENTITY_ENDPOINT": f"{ORIGIN}/msi/token", "IDENTITY_HEADER": "a-header"}
instance = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": ORIGIN}

# name, what the library does, how fhirctl signs in, its surroundings
WAYS = [
    ("google-service-account", google_refresh(lambda: google.oauth2.service_account.Credentials.from_service_account_info(account, scopes=[SCOPE])), {"method": "google", "credentials": at("account.json")}, {}),
    ("google-user", google_refresh(lambda: google.oauth2.credentials.Credentials(None, **{name: user[name] for name in ("client_id", "client_secret", "refresh_token", "token_uri")})), {"method": "google", "credentials": at("user.json")}, {}),
    ("google-machine", google_refresh(lambda: google.auth.compute_engine.Credentials(scopes=[SCOPE])), {"method": "google"}, metadata),
    ("entra-secret", entra("s+/&="), azure | {"client_secret": at("secret")}, {}),
    ("entra-certificate", entra({"private_key": key, "public_certificate": certificate}), azure | {"certificate": at("both.pem")}, {}),
    ("azure-app-service", managed(msal.SystemAssignedManagedIdentity(), app_service), {"method": "azure", "managed_identity": True}, app_service),
    ("azure-instance", managed(msal.SystemAssignedManagedIdentity(), instance), {"method": "azure", "managed_identity": True}, instance),
    ("azure-instance-of-a-user", managed(msal.UserAssignedManagedIdentity(client_id=CLIENT), instance), {"method": "azure", "managed_identity": True, "client_id": CLIENT}, instance),
]



def short(facts, name):
    text = facts.get(name, "none")
    return text if len(text) <= 90 else f"{text[:80]}…"


failed = 0
for name, library, auth, environment in WAYS:
    try:
        theirs, ours = one_request(library), one_request(fhirctl(name, auth, environment))
    except Exception as error:
        print(f"FAIL  {name}: {error}")
        failed += 1
        continue
    accepted = ACCEPTED.get(name, {})
    differ = {fact for fact in theirs.keys() | ours.keys() if theirs.get(fact) != ours.get(fact)}
    for fact in sorted(differ & accepted.keys()):
        print(f"      {name}: {fact}: library {short(theirs, fact)}, fhirctl {short(ours, fact)}: {accepted[fact]}")
    for fact in sorted(differ - accepted.keys()):
        print(f"FAIL  {name}: {fact}: library {short(theirs, fact)}, fhirctl {short(ours, fact)}")
    for fact in sorted(accepted.keys() - differ):
        print(f"FAIL  {name}: {fact}: listed as a difference, and is none: {short(ours, fact)}")
    wrong = len(differ ^ accepted.keys())
    failed += wrong
    if not wrong:
        print(f"PASS  {name}: {len(theirs.keys() | ours.keys()) - len(differ)} facts alike, {len(differ)} differ as listed")

print(f"used: google-auth {google.auth.__version__}, msal {msal.__version__}")
sys.exit(1 if failed else 0)
