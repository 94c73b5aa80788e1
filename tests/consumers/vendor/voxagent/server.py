"""Runs printed.py, the "Verification Example" of https://docs.voxagent.app/en/guide/webhooks as that page prints it.

The page does not name the header; X-Webhook-Signature is the one callfeed looks for first.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from printed import verify_webhook
from serve import serve

serve(lambda headers, body: verify_webhook(body, headers["x-webhook-signature"], os.environ["WEBHOOK_SECRET"]))
