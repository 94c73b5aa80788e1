// npm install cloudevents standardwebhooks

import { createServer } from "node:http";
import { buffer } from "node:stream/consumers";
import { HTTP } from "cloudevents";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.CALLFEED_SECRET);

const server = createServer(async (request, response) => {
  const body = await buffer(request);
  try {
    // Over the bytes as they came, before anything reads them.
    webhook.verify(body, request.headers);
  } catch {
    return response.writeHead(401).end();
  }
  const event = HTTP.toEvent({ headers: request.headers, body: body.toString() });
  // An event may come more than once, always under the same id: keep it under that id, then answer.
  console.log(event.id, event.type, event.subject);
  response.writeHead(204).end();
});

server.listen(process.env.PORT ?? 4000, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/events`);
});
