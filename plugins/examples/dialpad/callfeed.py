"""What a callfeed provider plugin in Python is written with.

A body is read so that nothing of it is lost: *taking* a member removes it, *peeking* leaves it, and whatever is left goes
into the event as `extra`. Take what the event says as it is; peek at what is changed on its way (minutes into seconds).
`callfeed plugin test` shows a member that is nowhere.

A plugin has Python's standard library, as far as it needs no files, network, threads or clock.
"""

import base64 as _base64
import binascii
import json as _json
import re
import traceback
from datetime import datetime, timedelta, timezone
from math import isfinite

from componentize_py_types import Err
from wit_world.imports import crypto, environment, types
from wit_world.imports.crypto import JwsRules, Part_Body, Part_Bytes, Part_Secret, Part_Text


class Rejection(Exception):
    """Why a webhook is not taken. Raised from `verify` and `normalize`; `code` is short and stable."""

    def __init__(self, kind, code, detail=""):
        super().__init__(code)
        self.kind, self.code, self.detail = kind, code, detail


def unauthenticated(code, detail=""):
    """It cannot be shown that the provider sent this: `signature-missing`."""
    return Rejection(types.RejectionKind.UNAUTHENTICATED, code, detail)


def malformed(code, detail=""):
    """It is not what this provider sends: `call-id-missing`."""
    return Rejection(types.RejectionKind.MALFORMED, code, detail)


def unsupported(code, detail=""):
    """Well formed, but of a kind this plugin cannot take."""
    return Rejection(types.RejectionKind.UNSUPPORTED, code, detail)


def provider(describe, verify, normalize):
    """The class `Plugin` of a plugin: `Plugin = provider(describe, verify, normalize)`.

    `describe()` returns a `descriptor(…)`, `verify(request)` an `authentic(…)` or `respond(…)`, and
    `normalize(request, payload)` an `events(…)`, `ignored(…)` or `respond(…)`; the latter two may raise a `Rejection`.
    """

    class Plugin:
        def describe(self):
            return describe()

        def verify(self, request):
            return _answered(types.Verdict_Reject, types.Verdict_Respond, lambda: verify(request))

        def normalize(self, request, payload):
            return _answered(types.Outcome_Reject, types.Outcome_Respond, lambda: normalize(request, payload))

    return Plugin


def _answered(reject, respond, answer):
    try:
        answer = answer()
    except Rejection as rejection:
        return reject(types.Rejection(rejection.kind, rejection.code, rejection.detail))
    except Exception:
        log("error", traceback.format_exc())
        raise
    return respond(answer) if isinstance(answer, types.Response) else answer


def descriptor(
    provider,
    display_name,
    version,
    *,
    events,
    secrets=(),
    headers=(),
    methods=("POST",),
    content_types=("application/json",),
    max_body_bytes=64 << 10,
    assurance="signed-body",
    options_schema='{"type":"object","additionalProperties":false}',
    extra=(),
):
    """The contract's `descriptor`. `events` are pairs of the provider's name and the unified type, `secrets` those of
    `secret_spec`, `extra` pairs of name and value."""
    return types.Descriptor(
        provider=provider,
        display_name=display_name,
        version=version,
        schema="call-event/1",
        methods=list(methods),
        content_types=list(content_types),
        headers=list(headers),
        max_body_bytes=max_body_bytes,
        assurance=assurance,
        events=[types.EventSpec(native, unified) for native, unified in events],
        secrets=list(secrets),
        options_schema=options_schema,
        extra=[types.Field(name, value) for name, value in extra],
    )


def secret_spec(name, summary, encoding="utf8", required=True, may_hmac=False):
    """A secret; `summary` tells where to find it at the provider."""
    return types.SecretSpec(name, summary, encoding, required, may_hmac)


def authentic(form, payload=None):
    """The provider sent this. `form` names which of its forms of signature it was; `payload` is handed to `normalize`."""
    return types.Verdict_Authentic(types.Proof(form, payload))


def respond(value):
    """A handshake's answer: JSON with status 200."""
    return types.Response(200, [types.Field("content-type", "application/json")], _json.dumps(value).encode())


def ignored(reason):
    """Understood, and of no interest."""
    return types.Outcome_Ignored(reason)


# The last time that the gateway has a place for, some hours before the year 10000.
_LATEST_MS = 253_402_207_200_999


def event(kind, id, subject, data, at=None, test=False):
    """One event. The same event must have the same `id` however often it is sent; `at` is a time or nothing."""
    data = _json.dumps(_known(data), default=_written, separators=(",", ":"), allow_nan=False)
    occurred_at_ms = at.ms if at is not None and 0 <= at.ms <= _LATEST_MS else None
    return types.Event(kind, id, subject, occurred_at_ms, test, data)


def events(*all):
    """What a webhook says: one event or several."""
    return types.Outcome_Accepted(types.Accepted(list(all), None))


_AS_SENT = ("extra", "extracted", "metadata", "value")


def _known(value):
    """Without the members that are unknown."""
    if isinstance(value, list):
        return [_known(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: member if key in _AS_SENT else _known(member)
        for key, member in value.items()
        if member is not None or key == "number"
    }


def header(request, name):
    """The first value of a header that `describe` names, in lower case; or nothing."""
    return next((field.value for field in request.headers if field.name == name), None)


def required_header(request, name, code):
    """The first value of a header, without which nothing can be shown."""
    value = header(request, name)
    if value is None:
        raise unauthenticated(code)
    return value


def text(request):
    """The body as text."""
    if isinstance(request.body, types.Body_Text):
        return request.body.value
    raise malformed("body-missing" if isinstance(request.body, types.Body_None_) else "body-not-text")


def json(request, payload=None):
    """The body as JSON, or `payload` where the body only carries it."""
    return parse(text(request) if payload is None else payload)


def options():
    """The route's options."""
    return _json.loads(environment.options())


def log(level, message):
    """A line for the operator's log: `debug`, `info`, `warn` or `error`. Nothing of the body."""
    environment.log(environment.Level[level.upper()], message)


BODY = Part_Body()
"""The body, among the parts of a message that is signed; the others are `str`, `bytes` and `Part_Secret`."""


def _parts(message):
    kinds = {str: Part_Text, bytes: Part_Bytes}
    return [kinds[type(part)](part) if type(part) in kinds else part for part in message]


def _checked(check, *arguments):
    try:
        return check(*arguments)
    except Err as error:
        failure = error.value
        if isinstance(failure, crypto.Failure_Mismatch):
            raise unauthenticated("signature-mismatch") from None
        # The gateway knows these two and answers by itself.
        misconfigured = isinstance(failure, crypto.Failure_Misconfigured)
        raise unauthenticated("host-misconfigured" if misconfigured else "host-refused", failure.value) from None


def verify_hmac(secret, algorithm, message, signature):
    """`algorithm`: `sha1`, `sha256`, `sha384`, `sha512`. `signature` in bytes: `unhex(…)` or `unbase64(…)`."""
    _checked(crypto.verify_hmac, secret, algorithm, _parts(message), signature)


def verify_token(secret, presented):
    _checked(crypto.verify_token, secret, presented.encode())


def verify_digest(algorithm, message, expected):
    _checked(crypto.verify_digest, algorithm, _parts(message), expected)


def verify_signature(key, algorithm, message, signature):
    _checked(crypto.verify_signature, key, algorithm, _parts(message), signature)


def verify_jws(key, token, algorithm, issuer=None, audience=None, leeway_seconds=60, require_expiry=False):
    """The claims, as JSON text."""
    return _checked(crypto.verify_jws, key, token, JwsRules(algorithm, issuer, audience, leeway_seconds, require_expiry))


def hmac(secret, algorithm, message):
    return _checked(crypto.hmac, secret, algorithm, _parts(message))


def hash(algorithm, message):
    return _checked(crypto.hash, algorithm, _parts(message))


def fingerprint(*texts):
    """A short text that stands for other texts in an id."""
    message = [part for text in texts for part in (f"{len(text.encode())}:", text)]
    return hash("sha256", message)[:16].hex()


def unhex(text, code="signature-malformed"):
    """Undoes hex; raises the rejection with this code."""
    try:
        return binascii.unhexlify(text)
    except ValueError:
        raise unauthenticated(code) from None


def unbase64(text, code="signature-malformed"):
    """Undoes base64 of the standard alphabet, padded."""
    try:
        return _base64.b64decode(text, validate=True)
    except ValueError:
        raise unauthenticated(code) from None


# The gateway takes no deeper nesting, and what is much deeper would use up the interpreter's stack.
_DEPTH_MAX = 64
_SAFE_BRACKETS = 512
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)

# Half of a surrogate pair is no character: the gateway would not take the event.
_ESCAPES = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_HALF = re.compile(r"\\u[dD][89a-fA-F]..")


def parse(text):
    """Reads JSON whose top is an object."""
    if text.count("[") + text.count("{") > _SAFE_BRACKETS:
        _refuse_abyss(text)
    if "\\ud" in text or "\\uD" in text:
        text = _ESCAPES.sub(lambda found: "\\ufffd" if _HALF.fullmatch(found[0]) else found[0], text)
    try:
        value = _json.loads(text, parse_float=_finite, parse_constant=_finite)
    except ValueError:
        raise malformed("json-invalid") from None
    _refuse_deep(value, _DEPTH_MAX)
    if not isinstance(value, dict):
        raise malformed("json-not-an-object")
    return Fields(value)


def _refuse_abyss(text):
    depth = 0
    for bracket in re.findall(r"[][{}]", _STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > _DEPTH_MAX:
            raise malformed("json-too-deep")


def _finite(number):
    value = float(number)
    if not isfinite(value):
        raise ValueError("no number of JSON")
    return value


def _refuse_deep(value, left):
    if not isinstance(value, (dict, list)):
        return
    if left == 0:
        raise malformed("json-too-deep")
    for inner in value.values() if isinstance(value, dict) else value:
        _refuse_deep(inner, left - 1)


class Fields:
    """The members of an object that have not been taken. As `extra` of an event's data it says what is left."""

    def __init__(self, members):
        self._members = members

    def peek(self, key):
        return self._members.get(key)

    def take(self, key):
        """Any value that was not opened, as it is."""
        return self._members.pop(key, None)

    def _take_if(self, key, read):
        """Takes the value if `read` makes something of it."""
        value = read(self.peek(key))
        if value is not None:
            del self._members[key]
        return value

    def peek_text(self, key):
        """A text that is not empty."""
        return _text(self.peek(key))

    def take_text(self, key):
        return self._take_if(key, _text)

    def peek_id(self, key):
        """A text that can be an id, or a whole number as text."""
        value = self.peek(key)
        id = str(value) if type(value) is int else _text(value)
        return id if id is not None and len(id) <= _ID_LENGTH_MAX and not _CONTROL.search(id) else None

    def take_id(self, key):
        """One that was a number becomes a text, so the number stays."""
        id = self.peek_id(key)
        if id is not None:
            self.take_text(key)
        return id

    def take_boolean(self, key):
        return self._take_if(key, lambda value: value if isinstance(value, bool) else None)

    def peek_number(self, key):
        return _number(self.peek(key))

    def take_number(self, key):
        return self._take_if(key, _number)

    def take_seconds(self, key):
        """A length of time in seconds."""
        return self._take_if(key, seconds)

    def peek_word(self, key, words):
        """What a table has for the word. It becomes another, so it stays."""
        return words.get(self.peek_text(key))

    def peek_time(self, key):
        """An RFC 3339 text with any offset."""
        text = self.peek_text(key)
        return rfc3339(text) if text is not None else None

    def take_time(self, key):
        """One that is not written as the event writes times stays as well."""
        time = self.peek_time(key)
        if time is not None and time.text == self.peek(key):
            del self._members[key]
        return time

    def take_party(self, key):
        """An end of a call, from the text that names it."""
        raw = self.take_text(key)
        return party(raw) if raw is not None else None

    def open(self, key):
        """The object under a key; or nothing. What is left of it stays where it is."""
        value = self.peek(key)
        if isinstance(value, dict):
            value = self._members[key] = Fields(value)
        return value if isinstance(value, Fields) else None

    def open_list(self, key):
        """The objects of the list under a key; or nothing."""
        items = self.peek(key)
        if not isinstance(items, list):
            return None
        items[:] = [Fields(item) if isinstance(item, dict) else item for item in items]
        return [item for item in items if isinstance(item, Fields)]

    def is_empty(self):
        """Whether nothing is left."""
        return all(_is_nothing(value) for value in self._members.values())

    def left(self):
        return {key: value for key, value in self._members.items() if not _is_nothing(value)}


# What the gateway takes for an id, with room for another before it.
_ID_LENGTH_MAX = 128
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")


def _is_nothing(value):
    # A list that was opened, and of which everything was taken, says nothing; one that came empty does.
    if isinstance(value, Fields):
        return value.is_empty()
    return isinstance(value, list) and value != [] and all(isinstance(item, Fields) and item.is_empty() for item in value)


def _written(value):
    if isinstance(value, Fields):
        return value.left()
    if isinstance(value, Time):
        return value.text
    raise TypeError(f"{type(value).__name__} is no part of an event")


def _text(value):
    return value if isinstance(value, str) and value else None


def _number(value):
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def seconds(value):
    """A length of time, where the value can be one."""
    value = _number(value)
    if value is None or not 0 <= value < 1e15:
        return None
    return int(value) if value == int(value) else value


class Time:
    """A point in time, as the event writes it: RFC 3339 in UTC."""

    def __init__(self, text, ms):
        self.text, self.ms = text, ms


_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?([Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MS = timedelta(milliseconds=1)


def rfc3339(text):
    """Reads an RFC 3339 text; or nothing. What is in UTC keeps its text, down to the last digit."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    day, minute, second, fraction, zone, sign, offset_hours, offset_minutes = found.groups()
    # A leap second is the one after it, as it is for Unix time.
    leap = second == "60"
    offset = timedelta()
    if sign is not None:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            return None
        offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes)) * (-1 if sign == "-" else 1)
    try:
        time = datetime.fromisoformat(f"{day}T{minute}:{'59' if leap else second}+00:00") - offset
    except (ValueError, OverflowError):
        return None
    milliseconds = int((fraction or "0")[:3].ljust(3, "0"))
    ms = (time - _EPOCH) // _MS + milliseconds + (1000 if leap else 0)
    return Time(text, ms) if zone == "Z" and text[10] == "T" and not leap else _time_of(ms)


def unix(value):
    """From a Unix time in seconds or milliseconds, a number or its digits; or nothing."""
    digits = str(value)
    if not re.fullmatch(r"[0-9]{10}|[0-9]{13}", digits):
        return None
    return _time_of(int(digits) * (1000 if len(digits) == 10 else 1))


def _time_of(ms):
    try:
        time = _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        return None
    text = time.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    return Time(f"{text}.{ms % 1000:03}Z" if ms % 1000 else f"{text}Z", ms)


_DIGITS = re.compile(r"\+[0-9 \u00a0\u202f\u2011./()-]*")


def party(raw):
    """An end of a call: what was sent, and its number in E.164 where the text says so by itself, with a `+`."""
    digits = "".join(filter(str.isdigit, raw)) if _DIGITS.fullmatch(raw) and "(0)" not in raw else ""
    return {"number": f"+{digits}" if re.fullmatch("[1-9][0-9]{6,14}", digits) else None, "raw": raw}
