"""{{title}}'s webhooks as unified events."""

import callfeed

SIGNATURE = "x-{{name}}-signature"
DIRECTIONS = {"in": "inbound", "out": "outbound"}


def describe():
    return callfeed.descriptor(
        "{{name}}",
        "{{title}}",
        "0.1.0",
        headers=[SIGNATURE],
        secrets=[callfeed.secret_spec("signing", "Where an operator finds the signing key at {{title}}")],
        events=[
            ("call.ended", "call.completed"),
            ("*", "provider.other"),
        ],
    )


def verify(request):
    signature = callfeed.unhex(callfeed.required_header(request, SIGNATURE, "signature-missing"))
    callfeed.verify_hmac("signing", "sha256", [callfeed.BODY], signature)
    return callfeed.authentic("hex")


def normalize(request, payload):
    body = callfeed.json(request)
    name = body.take_text("event")
    if name is None:
        raise callfeed.malformed("event-missing")
    # The same in every delivery of one event. Not told elsewhere, so it stays.
    id = body.peek_id("id")
    if id is None:
        raise callfeed.malformed("id-missing")
    call = body.open("call")
    subject = call.peek_id("id") if call is not None else None
    if name != "call.ended" or subject is None:
        # What this plugin has no name for is kept whole.
        at = body.peek_time("occurred_at")
        data = {"provider_event": name, "extra": body}
        return callfeed.events(callfeed.event("provider.other", id, subject or id, data, at))

    ended_at = body.take_time("occurred_at")
    agent = call.take_text("agent")
    data = {
        "provider_event": name,
        "call": {
            "id": call.take_id("id"),
            "direction": call.peek_word("direction", DIRECTIONS) or "unknown",
            "state": "ended",
            "from": call.take_party("from"),
            "to": call.take_party("to"),
            "started_at": call.take_time("started_at"),
            "ended_at": ended_at,
            "duration_seconds": call.take_seconds("seconds"),
            "agent": {"name": agent} if agent is not None else None,
        },
        "extra": body,
    }
    return callfeed.events(callfeed.event("call.completed", id, subject, data, ended_at))


Plugin = callfeed.provider(describe, verify, normalize)
