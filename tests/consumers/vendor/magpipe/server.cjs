// Runs printed.cjs, the "Verification Examples" of https://docs.magpipe.ai/features/webhooks as that page prints them.
// The page leaves out how `app` and `express` came to be.

globalThis.express = require('express');
globalThis.app = express();
require('./printed.cjs');

// Where the printed code throws, Express answers 500; this says with what.
app.use((error, request, response, next) => response.status(500).send(`${error.name}: ${error.code}`));

const server = app.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/webhook`);
});
