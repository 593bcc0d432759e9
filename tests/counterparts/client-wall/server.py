"""A TLS server that ends the handshake with an alert when the client shows no certificate of the
authority's. Behind the wall: a minimal R4 CapabilityStatement."""

import http.server
import json
import ssl
import sys

certificate, key, authority = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.load_verify_locations(authority)
context.verify_mode = ssl.CERT_REQUIRED

STATEMENT = json.dumps(
    {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-01-01",
        "kind": "instance",
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{"mode": "server", "resource": [{"type": "Patient", "interaction": [{"code": "read"}]}]}],
    }
).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def setup(self):
        # Here and not where connections are accepted: the alert is this connection's own affair.
        self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self):
        known = self.path.endswith("/metadata")
        body = STATEMENT if known else b"{}"
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass


with Server(("127.0.0.1", 0), Handler) as server:
    print(json.dumps({"name": "client-wall", "port": server.server_address[1]}), flush=True)
    server.serve_forever()
