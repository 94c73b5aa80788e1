"""The six steps under "Generating a Signature" of
https://www.magnetis.fr/support/comment-utiliser-parametrer-tester-un-webhook-17-8-2022, one line each; the page prints no code.
"""

import base64
import hashlib
import hmac
from urllib.parse import parse_qsl


def verify(url: str, body: bytes, signature: str, key: str) -> bool:
    text = url
    variables = sorted(parse_qsl(body.decode(), keep_blank_values=True))
    for name, value in variables:
        text += name + value
    binary = hmac.new(key.encode(), text.encode(), hashlib.sha1).digest()
    generated = base64.b64encode(binary).decode()
    return hmac.compare_digest(generated, signature)
