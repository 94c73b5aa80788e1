// Runs one of the two examples of https://docs.topcalls.ai/guides/webhooks as that page prints them: "Express.js Example"
// is printed-handling.mjs, "Signature Verification" is printed-signature.mjs. The page leaves out how `app`, the secret and
// the functions of the integrator came to be; that `req.body` is what was parsed says that the body is parsed.

import express from 'express';

const example = process.argv[2];
const app = express();
app.use(express.json());
app.use((request, response, next) => {
  next();
  // The signature example breaks off at "Process webhook..." and answers nothing to what it accepts; this is what the
  // handling example answers.
  if (!response.headersSent) response.status(200).json({ received: true });
});

globalThis.app = app;
globalThis.WEBHOOK_SECRET = process.env.WEBHOOK_SECRET;
for (const name of ['updateCRM', 'sendNotification', 'updateAnalytics']) {
  globalThis[name] = async (call) => console.log(name, call.call_id);
}
await import(`./printed-${example}.mjs`);

// Where the printed code throws, Express answers 500; this says with what.
app.use((error, request, response, next) => response.status(500).send(`${error.name}: ${error.code}`));

const server = app.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/webhooks/call-complete`);
});
