// Packs the orders of orders.py; the picture of a failure is taken of it. It records its exceptions, as SDKs advise.
const amqp = require('amqplib');
const { trace, SpanStatusCode } = require('@opentelemetry/api');

const shelves = ['A1', 'A2', 'B1', 'B2', 'C1', 'C2', 'C3'];

function pack(number) {
  const shelf = shelves[number % 8];
  return `order ${number} from shelf ${shelf.toUpperCase()}`;
}

function say(level, message) {
  const trace_id = trace.getActiveSpan()?.spanContext().traceId;
  console.log(JSON.stringify({ level, message, trace_id }));
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertQueue('orders', { durable: true });
  await channel.consume('orders', (message) => {
    const number = Number(message.content.toString());
    try {
      say('info', `packed ${pack(number)}`);
      channel.ack(message);
    } catch (error) {
      const span = trace.getActiveSpan();
      span.recordException(error);
      span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
      say('error', `cannot pack order ${number}: ${error.message}`);
      channel.reject(message, false);
    }
  });
  say('info', 'ready');
}

main();
