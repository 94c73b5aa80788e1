"""Follows Magnétis' printed steps (steps.py) for the webhook URL that was entered at Magnétis."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from serve import serve
from steps import verify

serve(
    lambda headers, body: verify(
        os.environ["WEBHOOK_URL"], body, headers["x-calltracking-signature"], os.environ["WEBHOOK_KEY"]
    )
)
