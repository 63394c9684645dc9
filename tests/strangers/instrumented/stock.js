// An Express service. Knows nothing of OpenTelemetry.
const express = require('express');

const app = express();
app.get('/healthz', (_, response) => response.send('ok'));
app.get('/stock/:number', (request, response) => response.json({ left: Number(request.params.number) }));
app.listen(Number(process.env.PORT), process.env.HOST);
