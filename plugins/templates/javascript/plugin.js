// {{title}}'s webhooks as unified events.

import * as callfeed from "./callfeed.js";

const SIGNATURE = "x-{{name}}-signature";
const DIRECTIONS = { in: "inbound", out: "outbound" };

export const plugin = callfeed.provider({ describe, verify, normalize });

function describe() {
  return {
    provider: "{{name}}",
    displayName: "{{title}}",
    version: "0.1.0",
    headers: [SIGNATURE],
    secrets: [{ name: "signing", summary: "Where an operator finds the signing key at {{title}}" }],
    events: [
      ["call.ended", "call.completed"],
      ["*", "provider.other"],
    ],
  };
}

function verify(request) {
  const signature = callfeed.hex(callfeed.requiredHeader(request, SIGNATURE, "signature-missing"));
  callfeed.verifyHmac("signing", "sha256", [callfeed.BODY], signature);
  return callfeed.authentic("hex");
}

function normalize(request) {
  const body = callfeed.json(request);
  const name = body.takeText("event");
  if (name === undefined) throw callfeed.malformed("event-missing");
  // The same in every delivery of one event. Not told elsewhere, so it stays.
  const id = body.peekId("id");
  if (id === undefined) throw callfeed.malformed("id-missing");
  const call = body.open("call");
  const subject = call?.peekId("id");
  if (name !== "call.ended" || subject === undefined) {
    // What this plugin has no name for is kept whole.
    const at = body.peekTime("occurred_at");
    const data = { provider_event: name, extra: body };
    return callfeed.events({ kind: "provider.other", id, subject: subject ?? id, at, data });
  }

  const endedAt = body.takeTime("occurred_at");
  const agent = call.takeText("agent");
  const data = {
    provider_event: name,
    call: {
      id: call.takeId("id"),
      direction: call.peekWord("direction", DIRECTIONS) ?? "unknown",
      state: "ended",
      from: call.takeParty("from"),
      to: call.takeParty("to"),
      started_at: call.takeTime("started_at"),
      ended_at: endedAt,
      duration_seconds: call.takeSeconds("seconds"),
      agent: agent && { name: agent },
    },
    extra: body,
  };
  return callfeed.events({ kind: "call.completed", id, subject, at: endedAt, data });
}
