// One GET, and what this client makes of the answer: "STATUS BYTES complete|broken MILLISECONDS".
import { get } from "node:http";

const began = performance.now();
let [status, size] = [0, 0];

function say(end) {
  console.log(status, size, end, Math.round(performance.now() - began));
  process.exit(0);
}

get(process.argv[2], (response) => {
  status = response.statusCode;
  response.on("data", (data) => { size += data.length; });
  response.on("end", () => say("complete"));
  response.on("error", () => say("broken"));
}).on("error", () => say("broken"));
