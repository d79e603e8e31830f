// A server that computes for some 4 ms, uses one processor, and takes $LOAD seconds to load.
const http = require("http");
const server = http.createServer((req, res) => {
  let sum = 0;
  for (let i = 0; i < 4e6; i++) sum += i % 7;
  res.end(`${process.pid} ${sum}\n`);
});
setTimeout(() => {
  server.listen({ fd: Number(process.env.SERVER_STARTER_PORT.match(/\d+$/)[0]) });
  process.on("SIGTERM", () => server.close());
}, 1000 * (process.env.LOAD || 0));
