import os, signal, socket, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"hello from %d\n" % os.getpid()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

fd = int(os.environ["SERVER_STARTER_PORT"].rpartition("=")[2])
server = ThreadingHTTPServer(None, Hello, bind_and_activate=False)
server.daemon_threads = False     # server_close waits for them
server.socket.close()
server.socket = socket.socket(fileno=fd)
server.socket.setblocking(False)  # another generation may be faster to accept
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
