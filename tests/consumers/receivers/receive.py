# pip install cloudevents standardwebhooks

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["CALLFEED_SECRET"])


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        headers = dict(self.headers)
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            # Over the bytes as they came, before anything reads them.
            webhook.verify(body, headers)
        except (WebhookVerificationError, ValueError):
            return self.answer(401)
        event = from_http_event(HTTPMessage(headers, body))
        # An event may come more than once, always under the same id: keep it under that id, then answer.
        print(event.get_id(), event.get_type(), event.get_subject(), flush=True)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "4000"))), Receiver)
print(f"listening on http://127.0.0.1:{server.server_port}/events", flush=True)
server.serve_forever()
