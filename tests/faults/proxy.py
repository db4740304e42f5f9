"""A relay on the loopback interface between a client and a server, which can lose answers and break off.

What it does to the connection is what a network does: the bytes that got through were received.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

Lose = Callable[[bytes], bool]


class Relay:
    """:param target: the port that it relays to; ``port`` is where it listens.

    :ivar lose: asked with everything that a client sent over a connection, when the server answers: whether the answer
        is lost, and with it the connection. The server has done by then what it was asked.
    :ivar cut: asked with what a client sends: whether the server goes away before it gets this; it is gone until
        ``cut`` says no again.
    """

    def __init__(self, target: int) -> None:
        self.lose: Lose = lambda sent: False
        self.cut: Lose = lambda sent: False
        self.lost = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            connection = _Connection(self, client, server)
            answers = threading.Thread(target=connection.answers, daemon=True)
            answers.start()
            connection.questions()
            answers.join()


class _Connection:
    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket) -> None:
        self._relay, self._client, self._server = relay, client, server
        self._sent = b""

    def questions(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(65536):
                if self._relay.cut(data):
                    break
                self._sent += data
                self._server.sendall(data)
        self._end()

    def answers(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(65536):
                if self._relay.lose(self._sent):
                    self._relay.lost += 1
                    break
                self._client.sendall(data)
        self._end()

    def _end(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
