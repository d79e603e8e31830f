const http = require("http");
const server = http.createServer((req, res) => res.end(`hello from ${process.pid}\n`));
server.listen({ fd: Number(process.env.SERVER_STARTER_PORT.match(/\d+$/)[0]) });
process.on("SIGTERM", () => server.close());
