"""Answers each datagram with itself. TERM makes it finish the one that it has read, and leave the rest in the queue."""
import os
import select
import signal
import socket

stopped = False


def stop(signum, frame):
    global stopped
    stopped = True


signal.signal(signal.SIGTERM, stop)
sock = socket.socket(fileno=int(os.environ["SERVER_STARTER_PORT"].rpartition("=")[2]))
while not stopped:
    if select.select([sock], [], [], 0.05)[0]:
        try:
            data, client = sock.recvfrom(1500, socket.MSG_DONTWAIT)
        except BlockingIOError:  # the other generation was faster
            continue
        sock.sendto(data, client)
