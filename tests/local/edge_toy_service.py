"""A stand-in for the service: /health at once, /ready after TOY_READY_SECONDS, and everything else tells who answered."""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STARTED = time.monotonic()
READY_SECONDS = float(os.environ.get("TOY_READY_SECONDS", "0"))
if os.environ.get("TOY_BROKEN"):
    sys.exit("told not to start")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment

    def do_GET(self) -> None:
        status = 503 if self.path == "/ready" and time.monotonic() - STARTED < READY_SECONDS else 200
        if self.path == "/slow":
            time.sleep(1.0)
        names = ("LIFEBOAT_INSTANCE", "LIFEBOAT_SITE", "PORT", "AWS_REGION", "AWS_ENDPOINT_URL", "TOY_VERSION")
        body = json.dumps({"env": {name: os.environ.get(name) for name in names}, "names": sorted(os.environ)}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
