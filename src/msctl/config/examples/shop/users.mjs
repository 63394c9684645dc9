// Users: a program of another language. msctl gives it $HOST and $PORT, and expects HTTP there.
import { createServer } from "node:http";

const users = [
  { id: 1, name: "Alice" },
  { id: 2, name: "Bob" },
];

function find(path) {
  if (path === "/healthz") return { status: "up" };
  if (path === "/users") return users;
  const match = /^\/users\/(\d+)$/.exec(path);
  return match && users.find((user) => user.id === Number(match[1]));
}

const server = createServer((request, response) => {
  const found = find(request.url.split("?")[0]);
  response.writeHead(found ? 200 : 404, { "Content-Type": "application/json" });
  response.end(JSON.stringify(found || { detail: "not found" }) + "\n");
});

server.listen(Number(process.env.PORT), process.env.HOST, () => {
  console.log(`users on ${process.env.HOST}:${process.env.PORT}`);
});

process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
