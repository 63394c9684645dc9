// Takes orders from the queue and packs them.
const amqp = require('amqplib');
const { trace, SpanStatusCode } = require('@opentelemetry/api');

const stock = { tea: { shelf: 'A1' }, coffee: { shelf: 'B4' } };

function pack(order) {
  const place = stock[order.item];
  return `${order.count} × ${order.item} from ${place.shelf}`;
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertQueue('orders', { durable: true });
  await channel.prefetch(10);
  await channel.consume('orders', (message) => {
    const span = trace.getActiveSpan();
    try {
      console.log(JSON.stringify({ level: 'info', message: `packed ${pack(JSON.parse(message.content))}`, trace_id: span?.spanContext().traceId }));
      channel.ack(message);
    } catch (error) {
      span?.recordException(error);
      span?.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
      console.log(JSON.stringify({ level: 'error', message: `cannot pack an order: ${error.message}`, trace_id: span?.spanContext().traceId }));
      channel.reject(message, false);
    }
  });
  console.log(JSON.stringify({ level: 'info', message: 'waiting for orders' }));
}

main();
