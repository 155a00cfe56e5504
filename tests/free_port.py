"""Prints a free TCP port below those the system gives to outgoing connections, so that no client takes it before its
broker does."""
import os
import socket

FIRST, COUNT = 11_000, 9_000
for step in range(COUNT):
    port = FIRST + (os.getpid() * 97 + step) % COUNT
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        print(port)
        break
else:
    raise SystemExit("no free port")
