// What a callfeed provider plugin in JavaScript is written with.
//
// A body is read so that nothing of it is lost: *taking* a member removes it, *peeking* leaves it, and whatever is left
// goes into the event as `extra`. Take what the event says as it is; peek at what is changed on its way (minutes into
// seconds). `callfeed plugin test` shows a member that is nowhere.
//
// The engine is QuickJS: modern JavaScript, without files, network, timers, `console` or `TextEncoder`.

import {
  hash as hostHash,
  hmac as hostHmac,
  verifyDigest as hostVerifyDigest,
  verifyHmac as hostVerifyHmac,
  verifyJws as hostVerifyJws,
  verifySignature as hostVerifySignature,
  verifyToken as hostVerifyToken,
} from "callfeed:provider/crypto@1.0.0";
import { log as hostLog, options as hostOptions } from "callfeed:provider/environment@1.0.0";

/** Why a webhook is not taken. Thrown from `verify` and `normalize`; `code` is short and stable. */
export class Rejection extends Error {
  constructor(kind, code, detail = "") {
    super(`${code} ${detail}`);
    Object.assign(this, { kind, code, detail });
  }
}

/** It cannot be shown that the provider sent this: `signature-missing`. */
export const unauthenticated = (code, detail) => new Rejection("unauthenticated", code, detail);

/** It is not what this provider sends: `call-id-missing`. */
export const malformed = (code, detail) => new Rejection("malformed", code, detail);

/** Well formed, but of a kind this plugin cannot take. */
export const unsupported = (code, detail) => new Rejection("unsupported", code, detail);

/**
 * The export of a plugin: `export const plugin = provider({ describe, verify, normalize })`.
 *
 * `describe` returns members of the contract's `descriptor`; those that are left out have the defaults below, `events` is
 * a list of pairs `[the provider's name, the unified type]`, and of a secret `name` and `summary` are enough. `verify`
 * returns `authentic(…)` or `respond(…)`, `normalize` `events(…)`, `ignored(…)` or `respond(…)`; both may throw a
 * `Rejection`.
 */
export function provider({ describe, verify, normalize }) {
  return {
    describe() {
      const { events = [], secrets = [], ...said } = describe();
      return {
        schema: "call-event/1",
        methods: ["POST"],
        contentTypes: ["application/json"],
        headers: [],
        maxBodyBytes: 64 << 10,
        assurance: "signed-body",
        optionsSchema: '{"type":"object","additionalProperties":false}',
        extra: [],
        ...said,
        events: events.map(([native, unified]) => ({ native, unified })),
        secrets: secrets.map((secret) => ({ encoding: "utf8", required: true, mayHmac: false, ...secret })),
      };
    },
    verify: (request) => answered(() => verify(request)),
    normalize: (request, payload) => answered(() => normalize(request, payload)),
  };
}

function answered(answer) {
  try {
    return answer();
  } catch (error) {
    if (error instanceof Rejection) {
      const { kind, code, detail } = error;
      return { tag: "reject", val: { kind, code, detail } };
    }
    log("error", `${error}\n${error.stack}`);
    throw error;
  }
}

/** The provider sent this. `form` names which of its forms of signature it was; `payload` is handed to `normalize`. */
export const authentic = (form, payload) => ({ tag: "authentic", val: { form, payload } });

/** A handshake's answer: JSON with status 200. */
export const respond = (value) => ({
  tag: "respond",
  val: {
    status: 200,
    headers: [{ name: "content-type", value: "application/json" }],
    body: bytes(JSON.stringify(value)),
  },
});

/** Understood, and of no interest. */
export const ignored = (reason) => ({ tag: "ignored", val: reason });

/**
 * What a webhook says: one event or several, each `{ kind, id, subject, at, test, data }`. The same event must have the
 * same `id` however often it is sent. `at` is a time or nothing.
 */
export const events = (...all) => ({
  tag: "accepted",
  val: {
    events: all.map(({ kind, id, subject, at, test = false, data }) => ({
      kind,
      id,
      subject,
      occurredAtMs: at && at.ms >= 0 && at.ms <= LATEST_MS ? at.ms : undefined,
      test,
      data: JSON.stringify(data),
    })),
    ack: undefined,
  },
});

// The last time that the gateway has a place for, some hours before the year 10000.
const LATEST_MS = 253_402_207_200_999;

/** The first value of a header that `describe` names, in lower case. */
export const header = (request, name) => request.headers.find((field) => field.name === name)?.value;

/** The first value of a header, without which nothing can be shown. */
export function requiredHeader(request, name, code) {
  const value = header(request, name);
  if (value === undefined) throw unauthenticated(code);
  return value;
}

/** The body as text. */
export function text(request) {
  if (request.body.tag === "text") return request.body.val;
  throw malformed(request.body.tag === "none" ? "body-missing" : "body-not-text");
}

/** The body as JSON, or `payload` where the body only carries it. */
export const json = (request, payload) => parse(payload ?? text(request));

/** The route's options. */
export const options = () => JSON.parse(hostOptions());

/** A line for the operator's log: `debug`, `info`, `warn` or `error`. Nothing of the body. */
export const log = (level, message) => hostLog(level, message);

/** Parts of a message that is signed, beside texts and `Uint8Array`s. */
export const BODY = { tag: "body" };
export const secret = (name) => ({ tag: "secret", val: name });

const parts = (message) =>
  message.map((part) => {
    if (typeof part === "string") return { tag: "text", val: part };
    return part instanceof Uint8Array ? { tag: "bytes", val: part } : part;
  });

function checked(check) {
  try {
    return check();
  } catch (error) {
    const failure = error.payload ?? error;
    if (failure.tag === "mismatch") throw unauthenticated("signature-mismatch");
    // The gateway knows these two and answers by itself.
    if (failure.tag === "misconfigured") throw unauthenticated("host-misconfigured", failure.val);
    if (failure.tag === "refused") throw unauthenticated("host-refused", failure.val);
    throw error;
  }
}

/** `algorithm`: `sha1`, `sha256`, `sha384`, `sha512`. `signature` in bytes: `hex(…)` or `base64(…)`. */
export const verifyHmac = (secret, algorithm, message, signature) =>
  checked(() => hostVerifyHmac(secret, algorithm, parts(message), signature));
export const verifyToken = (secret, presented) => checked(() => hostVerifyToken(secret, bytes(presented)));
export const verifyDigest = (algorithm, message, expected) =>
  checked(() => hostVerifyDigest(algorithm, parts(message), expected));
export const verifySignature = (key, algorithm, message, signature) =>
  checked(() => hostVerifySignature(key, algorithm, parts(message), signature));
/** The claims, as JSON text. */
export const verifyJws = (key, token, rules) =>
  checked(() => hostVerifyJws(key, token, { leewaySeconds: 60, requireExpiry: false, ...rules }));
export const hmac = (secret, algorithm, message) => checked(() => hostHmac(secret, algorithm, parts(message)));
export const hash = (algorithm, message) => checked(() => hostHash(algorithm, parts(message)));

/** A short text that stands for other texts in an id. */
export function fingerprint(...texts) {
  const message = texts.flatMap((text) => [`${bytes(text).length}:`, text]);
  return hash("sha256", message).slice(0, 16).toHex();
}

/** Undoes hex; throws the rejection with this code. */
export const hex = (text, code = "signature-malformed") => decoded(() => Uint8Array.fromHex(text), code);

/** Undoes base64, `base64` or `base64url`. */
export const base64 = (text, code = "signature-malformed", alphabet = "base64") =>
  decoded(() => Uint8Array.fromBase64(text, { alphabet, lastChunkHandling: "strict" }), code);

function decoded(decode, code) {
  try {
    return decode();
  } catch {
    throw unauthenticated(code);
  }
}

/** A text in UTF-8. */
export function bytes(text) {
  const escaped = encodeURIComponent(text.toWellFormed());
  const all = new Uint8Array(escaped.length);
  let length = 0;
  for (let at = 0; at < escaped.length; at += 1) {
    if (escaped[at] === "%") {
      all[length] = parseInt(escaped.slice(at + 1, at + 3), 16);
      at += 2;
    } else {
      all[length] = escaped.charCodeAt(at);
    }
    length += 1;
  }
  return all.slice(0, length);
}

/** Reads JSON whose top is an object. */
export function parse(text) {
  const value = readValue(text);
  if (!isObject(value)) throw malformed("json-not-an-object");
  return new Fields(value);
}

/** The gateway takes no deeper nesting, and what is much deeper would use up the engine's stack. */
const DEPTH_MAX = 64;
const SAFE_BRACKETS = 512;

function readValue(text) {
  if (text.split("[").length + text.split("{").length > SAFE_BRACKETS) refuseAbyss(text);
  // Half of a surrogate pair is no character: the gateway would not take the event.
  const halves = text.includes("\\ud") || text.includes("\\uD");
  const repaired = halves ? text.replace(ESCAPES, wholeOrReplaced) : text;
  try {
    const value = JSON.parse(repaired);
    // Numbers of more digits than a double has stay as they were sent. Reading those takes longer, and few bodies have any.
    return isExact(value, 0) ? value : JSON.parse(repaired, exactly);
  } catch (error) {
    throw error instanceof Rejection ? error : malformed("json-invalid");
  }
}

const STRINGS = /"(?:[^"\\]|\\.)*"/gs;
const ESCAPES = /\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)/gs;
const wholeOrReplaced = (escape) => (/^\\u[dD][89a-fA-F]..$/.test(escape) ? "\\ufffd" : escape);

function refuseAbyss(text) {
  let depth = 0;
  for (const bracket of text.replace(STRINGS, "").replace(/[^[\]{}]/g, "")) {
    depth += bracket === "[" || bracket === "{" ? 1 : -1;
    if (depth > DEPTH_MAX) throw malformed("json-too-deep");
  }
}

/** Whether every number is certainly what was sent. */
function isExact(value, depth) {
  if (typeof value === "number") return Math.abs(value) <= Number.MAX_SAFE_INTEGER;
  if (typeof value !== "object" || value === null) return true;
  if (depth === DEPTH_MAX) throw malformed("json-too-deep");
  for (const key in value) {
    if (!isExact(value[key], depth + 1)) return false;
  }
  return true;
}

function exactly(_key, value, { source }) {
  if (typeof value !== "number") return value;
  if (!Number.isFinite(value)) throw malformed("json-invalid");
  return String(value) === source ? value : JSON.rawJSON(source);
}

const isObject = (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !JSON.isRawJSON(value);

/** The members of an object that have not been taken. As `extra` of an event's data it says what is left. */
export class Fields {
  #members;

  constructor(members) {
    this.#members = members;
  }

  peek(key) {
    return Object.hasOwn(this.#members, key) ? this.#members[key] : undefined;
  }

  /** Any value that was not opened, as it is. */
  take(key) {
    const value = this.peek(key);
    delete this.#members[key];
    return value;
  }

  /** Takes the value if `read` makes something of it. */
  #takeIf(key, read) {
    const value = read(this.peek(key));
    if (value !== undefined) delete this.#members[key];
    return value;
  }

  /** A text that is not empty. */
  peekText(key) {
    return filled(this.peek(key));
  }

  takeText(key) {
    return this.#takeIf(key, filled);
  }

  /** A text that can be an id, or a number as the text it is written in. */
  peekId(key) {
    const value = this.peek(key);
    if (Number.isSafeInteger(value)) return String(value);
    const id = typeof value === "object" && value !== null && JSON.isRawJSON(value) ? value.rawJSON : filled(value);
    return id !== undefined && id.length <= ID_LENGTH_MAX && !CONTROL.test(id) ? id : undefined;
  }

  /** One that was a number becomes a text, so the number stays. */
  takeId(key) {
    const id = this.peekId(key);
    if (id !== undefined) this.takeText(key);
    return id;
  }

  takeBoolean(key) {
    return this.#takeIf(key, (value) => (typeof value === "boolean" ? value : undefined));
  }

  peekNumber(key) {
    const value = this.peek(key);
    return typeof value === "number" ? value : undefined;
  }

  takeNumber(key) {
    return this.#takeIf(key, (value) => (typeof value === "number" ? value : undefined));
  }

  /** A length of time in seconds. */
  takeSeconds(key) {
    return this.#takeIf(key, seconds);
  }

  /** One of the words of a table: `peekWord("direction", { in: "inbound" })`. It becomes another, so it stays. */
  peekWord(key, words) {
    const word = this.peekText(key);
    return word !== undefined && Object.hasOwn(words, word) ? words[word] : undefined;
  }

  /** An RFC 3339 text with any offset. */
  peekTime(key) {
    const text = this.peekText(key);
    return text === undefined ? undefined : rfc3339(text);
  }

  /** One that is not written as the event writes times stays as well. */
  takeTime(key) {
    const time = this.peekTime(key);
    if (time !== undefined && time.text === this.peek(key)) delete this.#members[key];
    return time;
  }

  /** An end of a call, from the text that names it. */
  takeParty(key) {
    const raw = this.takeText(key);
    return raw === undefined ? undefined : party(raw);
  }

  /** The object under a key. What is left of it stays where it is. */
  open(key) {
    const value = this.peek(key);
    if (isObject(value) && !(value instanceof Fields)) this.#members[key] = new Fields(value);
    const opened = this.peek(key);
    return opened instanceof Fields ? opened : undefined;
  }

  /** The objects of the list under a key. */
  openList(key) {
    const list = this.peek(key);
    if (!Array.isArray(list)) return undefined;
    list.forEach((item, at) => {
      if (isObject(item) && !(item instanceof Fields)) list[at] = new Fields(item);
    });
    return list.filter((item) => item instanceof Fields);
  }

  /** Whether nothing is left. */
  isEmpty() {
    return Object.values(this.#members).every(isNothing);
  }

  toJSON() {
    return Object.fromEntries(Object.entries(this.#members).filter(([, value]) => !isNothing(value)));
  }
}

// A list that was opened, and of which everything was taken, says nothing; one that came empty does.
const isNothing = (value) => {
  if (value instanceof Fields) return value.isEmpty();
  return Array.isArray(value) && value.length > 0 && value.every((item) => item instanceof Fields && item.isEmpty());
};

// What the gateway takes for an id, with room for another before it.
const ID_LENGTH_MAX = 128;
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

const filled = (value) => (typeof value === "string" && value !== "" ? value : undefined);

/** A length of time that can be one. */
export const seconds = (value) => (typeof value === "number" && value >= 0 && value < Infinity ? value : undefined);

/** A point in time, written in JSON as the event writes it: RFC 3339 in UTC. */
export class Time {
  constructor(text, ms) {
    Object.assign(this, { text, ms });
  }

  toJSON() {
    return this.text;
  }
}

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-](\d\d):(\d\d))$/;

/** Reads an RFC 3339 text. What is in UTC keeps its text, down to the last digit. */
export function rfc3339(text) {
  const found = RFC3339.exec(text);
  if (found === null) return undefined;
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map(Number);
  const [fraction = "", zone, offsetHours = "0", offsetMinutes = "0"] = found.slice(7);
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  // A date that is in no calendar becomes another one.
  const exists = date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  if (!exists || hour > 23 || minute > 59 || second > 60 || offsetHours > 23 || offsetMinutes > 59) return undefined;
  date.setUTCHours(hour, minute, second, Number(fraction.slice(0, 3).padEnd(3, "0")));
  if (zone === "Z" && text[10] === "T" && second < 60) return new Time(text, date.getTime());
  const offsetMs = (Number(offsetHours) * 60 + Number(offsetMinutes)) * 60_000;
  return timeOf(date.getTime() - (zone[0] === "-" ? -offsetMs : offsetMs));
}

/** From a Unix time in seconds or milliseconds: a number, or its digits. */
export function unix(value) {
  const digits = String(value);
  if (!/^(\d{10}|\d{13})$/.test(digits)) return undefined;
  return timeOf(Number(digits) * (digits.length === 10 ? 1000 : 1));
}

function timeOf(ms) {
  const text = new Date(ms).toISOString();
  return text.length === 24 ? new Time(text.replace(".000Z", "Z"), ms) : undefined;
}

/** An end of a call: what was sent, and its number in E.164 where the text says so by itself, with a `+`. */
export function party(raw) {
  const digits = /^\+[0-9 \u00a0\u202f\u2011./()-]*$/.test(raw) && !raw.includes("(0)") ? raw.replace(/[^0-9]/g, "") : "";
  return { number: /^[1-9][0-9]{6,14}$/.test(digits) ? `+${digits}` : null, raw };
}
