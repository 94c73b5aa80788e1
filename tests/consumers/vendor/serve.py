"""What the Python examples need around them: a server that asks `verify(headers, body)` and answers 200 or 401."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(verify):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200 if verify(self.headers, body) else 401)
            self.send_header("content-length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
