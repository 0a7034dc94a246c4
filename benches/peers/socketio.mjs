// A relay as one writes it on npm's socket.io: `node socketio.mjs PORT`. No calls, no rates, no counts: who has a token hands candidates to others.
import { createServer } from 'node:http';
import jwt from 'jsonwebtoken';
import { Server } from 'socket.io';

const server = createServer((_, answer) => answer.writeHead(404).end());
const sockets = new Server(server);

sockets.use((socket, next) => {
  jwt.verify(socket.handshake.auth.token, 'secret', { algorithms: ['HS256'] }, (error, claims) => {
    socket.data.user = claims?.userId;
    next(error ?? undefined);
  });
});

sockets.on('connection', (socket) => {
  const fromUserId = socket.data.user;
  socket.join(fromUserId);
  socket.on('webrtc:ice_candidate', ({ targetUserId, candidate }) =>
    sockets.to(targetUserId).emit('webrtc:ice_candidate', { fromUserId, candidate }),
  );
});

server.listen(Number(process.argv[2]), '127.0.0.1');
