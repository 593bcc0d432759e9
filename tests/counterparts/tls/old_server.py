"""old_server.py PORT KEY CHAIN OLDEST NEWEST CIPHERS: tlslite-ng speaks what OpenSSL no longer does."""

import socket
import sys
import threading

from tlslite.api import (
    HandshakeSettings,
    TLSConnection,
    X509CertChain,
    parsePEMKey,
)

port, key, chain, oldest, newest, ciphers = sys.argv[1:]
with open(chain) as file:
    certificates = X509CertChain()
    certificates.parsePemList(file.read())
with open(key) as file:
    private = parsePEMKey(file.read(), private=True)
settings = HandshakeSettings()
settings.minVersion = (3, int(oldest))
settings.maxVersion = (3, int(newest))
settings.versions = [(3, minor) for minor in range(int(newest), int(oldest) - 1, -1)]
settings.cipherNames = ciphers.split(",")
settings.macNames = ["sha", "md5", "sha256", "sha384", "aead"]
settings.minKeySize = 512


def serve(stream):
    try:
        connection = TLSConnection(stream)
        connection.handshakeServer(
            certChain=certificates, privateKey=private, settings=settings, anon=False
        )
        connection.recv(4096)
        body = b"{}"
        connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
        )
        connection.close()
    except Exception:  # noqa: BLE001: whoever asks in vain is expected here
        pass
    finally:
        stream.close()


with socket.create_server(("127.0.0.1", int(port)), backlog=64) as listener:
    while True:
        accepted, _ = listener.accept()
        threading.Thread(target=serve, args=(accepted,), daemon=True).start()
