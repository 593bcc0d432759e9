"""A bulk data server that serves the files of a folder, as fast as they can be read. Prints its port."""

import http.server
import json
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", kind="application/json", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        base = f"http://{self.headers['Host']}"
        path = self.path.split("?")[0]
        if path.endswith("$export"):
            self.answer(202, Content_Location=f"{base}/status")
        elif path == "/status":
            files = sorted(folder.glob("*.ndjson"))
            output = [
                {
                    "type": file.name.split(".")[0],
                    "url": f"{base}/files/{file.name}",
                    "count": file.read_bytes().count(b"\n"),
                }
                for file in files
            ]
            manifest = {
                "transactionTime": "2026-01-01T00:00:00Z",
                "request": f"{base}/$export",
                "requiresAccessToken": False,
                "output": output,
                "error": [],
            }
            self.answer(200, json.dumps(manifest).encode())
        elif path.startswith("/files/"):
            file = folder / path.rsplit("/", 1)[1]
            self.answer(200, file.read_bytes(), "application/fhir+ndjson")
        else:
            self.answer(404, b"{}")

    def do_DELETE(self):
        self.answer(202)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
