const { WebSocketServer } = require('ws');
const http = require('http');
const server = http.createServer((q, r) => r.end('chat\n'));
new WebSocketServer({ server, path: '/chat' }).on('connection', ws => ws.on('message', m => ws.send('echo ' + m)));
server.listen(process.env.PORT, process.env.HOST, () => console.log('listening'));
