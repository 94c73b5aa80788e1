"""Dialpad: calls of a company's offices, call centers and users.

<https://developers.dialpad.com/docs/call-events>. A subscription with a secret sends a body that is nothing but a JWT,
signed with HS256; what it claims is the event. Without a secret the body is the event as JSON, unsigned.

An event is a call's change into a state, and every call ends in `hangup`, whether anybody took it or not. Of the two
lengths, both in milliseconds, `total_duration` begins with the call and `duration` with the answer.
"""

import callfeed

DIRECTIONS = {"inbound": "inbound", "outbound": "outbound"}


def describe():
    return callfeed.descriptor(
        "dialpad",
        "Dialpad",
        "0.1.0",
        # A body that is a token has been seen under several types.
        content_types=[],
        secrets=[callfeed.secret_spec("signing", "The secret that the webhook was created with, by Dialpad's API")],
        events=[
            ("calling", "call.initiated"),
            ("ringing", "call.ringing"),
            ("connected", "call.answered"),
            ("hangup", "call.completed"),
            ("hangup", "call.missed"),
            ("hangup", "call.failed"),
            ("*", "provider.other"),
        ],
        extra=[("documentation", "https://developers.dialpad.com/docs/call-events")],
    )


def verify(request):
    token = callfeed.text(request)
    if token.startswith("{"):
        # For the gateway to judge: it refuses this unless the route allows unsigned webhooks.
        return callfeed.authentic("unsigned")
    return callfeed.authentic("jwt", callfeed.verify_jws("signing", token, "HS256"))


def normalize(request, payload):
    body = callfeed.json(request, payload)
    name = body.take_id("state")
    if name is None:
        raise callfeed.malformed("state-missing")
    id = body.peek_id("call_id")
    if id is None:
        raise callfeed.malformed("call-id-missing")
    # A call may be put on hold and taken back many times.
    event_id = f"{id}:{name}:{body.peek_id('event_timestamp') or ''}"
    at = callfeed.unix(body.peek_id("event_timestamp"))
    kind, state, outcome = meaning(name, body)
    data = {"provider_event": name, "call": call(id, state, outcome, body) if state else None, "extra": body}
    return callfeed.events(callfeed.event(kind, event_id, id, data, at))


def meaning(name, body):
    """The type of the event, and the call's state and outcome after it."""
    if name == "calling":
        return "call.initiated", "initiated", None
    if name == "ringing":
        return "call.ringing", "ringing", None
    if name == "connected":
        return "call.answered", "answered", None
    if name != "hangup":
        return "provider.other", None, None
    if moment(body, "date_connected") is not None:
        return "call.completed", "ended", "completed"
    if body.peek_text("direction") == "inbound":
        return "call.missed", "ended", "missed"
    return "call.failed", "ended", "no_answer"


def call(id, state, outcome, body):
    body.take_id("call_id")
    direction = body.peek_word("direction", DIRECTIONS) or "unknown"
    outside = body.take_party("external_number")
    inside = body.take_party("internal_number")
    contact = body.open("contact")
    if outside is not None and contact is not None:
        outside["name"] = contact.take_text("name")
    return {
        "id": id,
        "direction": direction,
        "state": state,
        "outcome": outcome,
        "from": inside if direction == "outbound" else outside,
        "to": outside if direction == "outbound" else inside,
        "started_at": moment(body, "date_started"),
        "answered_at": moment(body, "date_connected"),
        "ended_at": moment(body, "date_ended"),
        "duration_seconds": milliseconds(body, "total_duration") if state == "ended" else None,
        "talk_seconds": milliseconds(body, "duration") if state == "ended" else None,
        "agent": agent(body) if outcome == "completed" or state == "answered" else None,
        "recording": recording(body),
    }


def moment(body, key):
    return callfeed.unix(body.peek_id(key))


def milliseconds(body, key):
    number = body.peek_number(key)
    return callfeed.seconds(round(number / 1000, 6)) if number is not None else None


def agent(body):
    """Who took the call, where that is a person; a department or a call center is none."""
    target = body.open("target")
    if target is None or target.peek_text("type") != "user":
        return None
    known = {"id": target.take_id("id"), "name": target.take_text("name")}
    return known if any(known.values()) else None


def recording(body):
    recordings = body.open_list("recording_details")
    url = recordings[0].take_text("url") if recordings else None
    return {"url": url} if url is not None else None


Plugin = callfeed.provider(describe, verify, normalize)
