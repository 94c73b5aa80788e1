// Reads requests as JSON from standard input; says what the Node libraries make of them.
//
// {"verify": [{"headers", "body", "key"}], "read": [{"headers", "body"}]} becomes
// {"verify": [null or the reason of the refusal], "read": [the event]}. Bodies are base64.

import { createPublicKey, verify as verifySignature } from 'node:crypto';
import { json } from 'node:stream/consumers';
import { HTTP } from 'cloudevents';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';

// With the official library; it knows no Ed25519, so that is done as the specification of Standard Webhooks says.
function verify(headers, body, key) {
  if (!key.startsWith('whpk_')) return new Webhook(key).verify(body, headers);
  if (Math.abs(Date.now() / 1000 - Number(headers['webhook-timestamp'])) > 300) {
    throw new WebhookVerificationError('Message timestamp too old or too new');
  }
  const x = Buffer.from(key.slice('whpk_'.length), 'base64').toString('base64url');
  const publicKey = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const head = `${headers['webhook-id']}.${headers['webhook-timestamp']}.`;
  const message = Buffer.concat([Buffer.from(head), body]);
  const signatures = headers['webhook-signature'].split(' ').map((signature) => signature.split(','));
  const matches = ([version, value]) =>
    version === 'v1a' && verifySignature(null, message, publicKey, Buffer.from(value, 'base64'));
  if (!signatures.some(matches)) throw new WebhookVerificationError('No matching signature found');
}

function refusal({ headers, body, key }) {
  try {
    verify(headers, Buffer.from(body, 'base64'), key);
    return null;
  } catch (error) {
    // With anything else the library failed, which is no refusal.
    if (!(error instanceof WebhookVerificationError)) throw error;
    return error.message;
  }
}

function read({ headers, body }) {
  const event = HTTP.toEvent({ headers, body: Buffer.from(body, 'base64').toString() });
  // Against the JSON schema of CloudEvents, which the SDK brings along; throws when it does not fit.
  event.validate();
  const { data, ...attributes } = event.toJSON();
  return { attributes: { ...attributes, time: Date.parse(attributes.time) }, data };
}

const request = await json(process.stdin);
console.log(JSON.stringify({ verify: request.verify.map(refusal), read: request.read.map(read) }));
