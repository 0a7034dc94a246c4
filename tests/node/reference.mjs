// npm's own server, set up like examples/socketio_harness.rs: what our layer has to equal.
//   node reference.mjs <port>
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, {
  pingInterval: 300,
  pingTimeout: 200,
  connectTimeout: 1000,
  cors: { origin: "*" },
});

io.on("connection", (socket) => {
  socket.emit("auth", socket.handshake.auth);
  socket.on("message", (...args) => socket.emit("message-back", ...args));
  socket.on("message-with-ack", (...args) => args.pop()(...args));
  socket.on("ask", () => socket.emit("question", (...args) => socket.emit("answered", ...args)));
  socket.on("leave-me", () => socket.disconnect());
  socket.on("kick-me", () => socket.disconnect(true));
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack();
  });
  socket.on("leave", (room, ack) => {
    socket.leave(room);
    ack();
  });
  socket.on("say", (room, what, ack) => {
    socket.to(room).emit("said", what);
    ack();
  });
});
io.of("/custom").on("connection", (socket) => socket.emit("auth", socket.handshake.auth));
io.of("/denied").use((_socket, next) => {
  next(Object.assign(new Error("denied"), { data: { code: 7 } }));
});
http.listen(+process.argv[2], "127.0.0.1");
