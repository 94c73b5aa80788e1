// Quo (formerly OpenPhone): calls and text messages of a company's lines.
//
// https://www.quo.com/docs/mdx/guides/webhooks. A webhook is signed with HMAC-SHA256 over a timestamp, a dot and the body;
// the key is base64. The header has four fields between semicolons: `hmac;1;<milliseconds>;<signature in base64>`.
//
// Nothing says whether a delivery that is tried again is signed again, so its age proves nothing and is not looked at: an
// event that comes twice has the same id and is kept once.

import * as callfeed from "./callfeed.js";

const SIGNATURE = "openphone-signature";
const DIRECTIONS = { incoming: "inbound", outgoing: "outbound" };

export const plugin = callfeed.provider({ describe, verify, normalize });

function describe() {
  return {
    provider: "quo",
    displayName: "Quo",
    version: "0.1.0",
    headers: [SIGNATURE],
    secrets: [{ name: "signing", encoding: "base64", summary: "Settings → Webhooks → the webhook → Reveal signing secret" }],
    events: [
      ["call.ringing", "call.ringing"],
      ["call.completed", "call.completed"],
      ["call.completed", "call.missed"],
      ["call.completed", "call.failed"],
      ["callTranscript", "call.transcript"],
      ["call.transcript.completed", "call.transcript"],
      ["message.received", "message.received"],
      ["message.delivered", "message.sent"],
      ["*", "provider.other"],
    ],
    extra: [{ name: "documentation", value: "https://www.quo.com/docs/mdx/guides/webhooks" }],
  };
}

function verify(request) {
  const fields = callfeed.requiredHeader(request, SIGNATURE, "signature-missing").split(";");
  if (fields.length !== 4 || fields[0] !== "hmac" || fields[1] !== "1") {
    throw callfeed.unauthenticated("signature-malformed");
  }
  const [, , timestamp, signature] = fields;
  callfeed.verifyHmac("signing", "sha256", [timestamp, ".", callfeed.BODY], callfeed.base64(signature));
  return callfeed.authentic("hmac-1");
}

function normalize(request) {
  const body = callfeed.json(request);
  const name = body.takeText("type");
  if (name === undefined) throw callfeed.malformed("event-missing");
  // The same in every delivery of one event. Not told elsewhere, so it stays.
  const id = body.peekId("id");
  if (id === undefined) throw callfeed.malformed("id-missing");
  const at = body.peekTime("createdAt");
  const object = body.open("data")?.open("object");
  const read = object && READERS[name];
  const { kind, subject, ...blocks } = read?.(object) ?? {
    kind: "provider.other",
    // A summary and a recording are about a call, too.
    subject: object?.peekId("callId") ?? object?.peekId("id") ?? id,
  };
  const data = { provider_event: name, ...blocks, extra: body };
  return callfeed.events({ kind, id, subject, at, data });
}

/** By the provider's name of the event: what its object says, or nothing when it does not say what it is about. */
const READERS = {
  __proto__: null,
  "call.ringing": (object) => call(object, "ringing"),
  "call.completed": (object) => call(object, "ended"),
  callTranscript: transcript,
  "call.transcript.completed": transcript,
  "message.received": (object) => message(object, "message.received"),
  "message.delivered": (object) => message(object, "message.sent"),
};

function call(object, state) {
  const id = object.takeId("id");
  if (id === undefined) return undefined;
  const direction = object.peekWord("direction", DIRECTIONS) ?? "unknown";
  const ended = state === "ended";
  const answered = object.peekTime("answeredAt") !== undefined;
  const outcome = ended ? outcomeOf(object, direction) : undefined;
  const kinds = { missed: "call.missed", no_answer: "call.failed" };
  return {
    kind: ended ? (kinds[outcome] ?? "call.completed") : "call.ringing",
    subject: id,
    call: {
      id,
      direction,
      state,
      outcome,
      from: object.takeParty("from"),
      to: object.takeParty("to"),
      started_at: object.takeTime("createdAt"),
      answered_at: object.takeTime("answeredAt"),
      ended_at: object.takeTime("completedAt"),
      agent: answered ? agent(object) : undefined,
      recording: recording(object),
    },
  };
}

/** A call that nobody took has no time of an answer, and may have a voicemail. */
function outcomeOf(object, direction) {
  if (object.peekTime("answeredAt") !== undefined) return "completed";
  if (object.peek("answeredAt") !== null) return undefined;
  return { inbound: "missed", outbound: "no_answer" }[direction];
}

function recording(object) {
  const url = object.openList("media")?.[0]?.takeText("url");
  return url && { url };
}

function agent(object) {
  const id = object.takeText("userId");
  return id && { id };
}

function transcript(object) {
  const id = object.takeId("callId");
  if (id === undefined) return undefined;
  const turns = object.openList("dialogue")?.map((turn) => {
    // One of our own speaks as a user; what they say is text, possibly none.
    const speaker = turn.peekText("userId") === undefined ? "customer" : "agent";
    return { speaker, text: turn.takeText("content") };
  });
  const said = turns?.filter((turn) => turn.text !== undefined);
  return { kind: "call.transcript", subject: id, call: { id, direction: "unknown", transcript: said } };
}

function message(object, kind) {
  const id = object.takeId("id");
  if (id === undefined) return undefined;
  // One recipient, or the list of a group.
  const to = object.takeParty("to");
  const media = object.openList("media")?.filter((item) => item.peekText("url") !== undefined);
  return {
    kind,
    subject: object.peekId("conversationId") ?? id,
    message: {
      id,
      channel: "sms",
      direction: object.peekWord("direction", DIRECTIONS) ?? "unknown",
      from: object.takeParty("from"),
      to,
      text: object.takeText("body"),
      media: media?.map((item) => ({ url: item.takeText("url"), content_type: item.takeText("type") })),
      sent_at: object.takeTime("createdAt"),
      conversation_id: object.takeText("conversationId"),
      agent: agent(object),
    },
  };
}
