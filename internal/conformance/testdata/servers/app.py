# The application of gunicorn, which takes $LOAD seconds to load, and the same for uvicorn.
import os
import time

time.sleep(int(os.environ.get("LOAD", 0)))


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\n"]


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": b"hello\n"})
