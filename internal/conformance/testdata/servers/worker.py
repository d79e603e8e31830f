# A worker in Python: serves on every socket of SERVER_STARTER_PORT and on TERM finishes what it has accepted.
import http.server, os, select, signal, socket, threading


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *args):
        pass


told_to_stop, wake = socket.socketpair()
wake.setblocking(False)
signal.set_wakeup_fd(wake.fileno())
signal.signal(signal.SIGTERM, lambda *_: None)

listeners = []
for entry in os.environ["SERVER_STARTER_PORT"].split(";"):
    listener = socket.socket(fileno=int(entry.rpartition("=")[2]))
    listener.setblocking(False)
    listeners.append(listener)

threads = []
while told_to_stop not in (ready := select.select(listeners + [told_to_stop], [], [])[0]):
    for listener in ready:
        try:
            connection, address = listener.accept()
        except BlockingIOError:  # another generation was faster
            continue
        connection.setblocking(True)
        thread = threading.Thread(target=Hello, args=(connection, address, None))
        thread.start()
        threads = [t for t in threads if t.is_alive()] + [thread]
for thread in threads:
    thread.join()
