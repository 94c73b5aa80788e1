"""Reads requests as JSON from standard input; says what the Python libraries make of them.

{"verify": [{"headers", "body", "key"}], "read": [{"headers", "body"}], "schema": path} becomes
{"verify": [null or the reason of the refusal], "read": [the event, and what is wrong with its data]}. Bodies are base64.
"""

import base64
import json
import sys
import time
from datetime import datetime, timedelta, timezone

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jsonschema import Draft202012Validator
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

EPOCH = datetime.fromtimestamp(0, timezone.utc)


def verify(headers, body, key):
    """With the official library; it knows no Ed25519, so that is done as the specification of Standard Webhooks says."""
    if not key.startswith("whpk_"):
        return Webhook(key).verify(body, headers)
    if abs(time.time() - int(headers["webhook-timestamp"])) > 300:
        raise WebhookVerificationError("Message timestamp too old or too new")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_"), validate=True))
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for signature in headers["webhook-signature"].split(" "):
        version, _, value = signature.partition(",")
        if version == "v1a":
            try:
                return public.verify(base64.b64decode(value, validate=True), message)
            except InvalidSignature:
                continue
    raise WebhookVerificationError("No matching signature found")


def refusal(headers, body, key):
    try:
        verify(headers, body, key)
    except WebhookVerificationError as error:
        # With anything else the library failed, which is no refusal.
        return str(error)
    return None


def read(headers, body, schema):
    event = from_http_event(HTTPMessage(headers, body))
    attributes = dict(event.get_attributes())
    attributes["time"] = (event.get_time() - EPOCH) // timedelta(milliseconds=1)
    problems = [f"{error.json_path}: {error.message}" for error in schema.iter_errors(event.get_data())]
    return {"attributes": attributes, "data": event.get_data(), "problems": problems}


def main():
    request = json.load(sys.stdin)
    schema = Draft202012Validator(json.load(open(request["schema"])))
    Draft202012Validator.check_schema(schema.schema)
    for one in request["verify"] + request["read"]:
        one["body"] = base64.b64decode(one["body"])
    json.dump(
        {
            "verify": [refusal(**one) for one in request["verify"]],
            "read": [read(**one, schema=schema) for one in request["read"]],
        },
        sys.stdout,
    )


main()
