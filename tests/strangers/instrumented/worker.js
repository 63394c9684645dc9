// Consumes orders with amqplib; the thirteenth fails. Knows nothing of OpenTelemetry.
const amqp = require('amqplib');

function ship(number) {
  if (number === 13) throw new Error(`order ${number} cannot be shipped`);
  console.log(JSON.stringify({ level: 'info', message: 'shipped', order: number }));
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertQueue('orders', { durable: true });
  await channel.consume('orders', async (message) => {
    const number = Number(message.content.toString());
    try {
      await fetch(`${process.env.STOCK_URL}/stock/${number}`);
      ship(number);
      channel.ack(message);
    } catch (error) {
      console.error(error.stack);
      channel.nack(message, false, false);
    }
  });
  console.log('ready');
}

main();
