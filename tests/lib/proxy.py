"""A TCP proxy between a mount and one of its servers, which counts requests by kind and does what networks do.

    p = Proxy("http", "127.0.0.1", 9000)        "http": S3; "mongo": MongoDB's OP_MSG; "redis": RESP
    p.port                                      where a client has to go
    p.counts()                                  {"PUT": 3, "GET versions": 1}; {"find files": 2}; {"HGETALL": 5}
    p.delay = 0.05; p.rate = 1 << 20            seconds before each request goes on; bytes per second each way
    p.reset()                                   every connection there is gets a RST, new ones are welcome
    p.cut(); p.restore()                        connections reset and new ones refused, until restore()
    p.hang(); p.restore()                       nothing passes in either direction and nobody is told
    p.on("PUT|POST complete", "lose", skip=2, times=1)
                                                the third matching request: see ACTIONS

Requests are parsed as they pass, so an action hits one request and its own reply. All proxies of a process share one
thread with an event loop; faults may be set from any thread.
"""
import asyncio
import collections
import errno
import random
import re
import socket
import struct
import threading
import time
import urllib.parse

# lose: the server does the work, its whole reply is read and thrown away, the client gets a RST.
# half: the client gets the first half of the reply, then a RST.
# drop: the server never sees the request, the client gets a RST.
# hold: the server does the work, and the client waits for ever (until restore() or reset()).
# slow: an HTTP 503 SlowDown, without the server.
ACTIONS = ("lose", "half", "drop", "hold", "slow")
CHUNK = 256 << 10
# Not what a user's operation costs: the driver looks after its connections, and news are waited for.
IDLE = re.compile(r"^(hello|ismaster|isMaster|ping|endSessions|buildInfo|saslStart|saslContinue|getLog|watch more|PING|AUTH|HELLO|CLIENT|SELECT)\b")


class Request:
    def __init__(self, kind, action=None):
        self.kind = kind
        self.action = action


class Loop:
    """The thread that all proxies share."""
    instance = None

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    @classmethod
    def get(cls):
        if cls.instance is None:
            cls.instance = cls()
        return cls.instance

    def call(self, coroutine, seconds=30):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)


class Rule:
    def __init__(self, pattern, action, skip, times):
        self.pattern = re.compile(pattern)
        self.action = action
        self.skip = skip
        self.left = times
        self.hits = 0

    def take(self, kind):
        if self.left == 0 or not self.pattern.search(kind):
            return None
        if self.skip > 0:
            self.skip -= 1
            return None
        self.left -= 1
        self.hits += 1
        return self.action


class Proxy:
    def __init__(self, protocol, host, port, listen="127.0.0.1", listen_port=0):
        self.protocol = {"http": Http, "mongo": Mongo, "redis": Resp}[protocol]
        self.target = (host, port)
        self.listen = listen
        self.port = listen_port
        self.delay = 0.0
        self.rate = 0
        self.hanging = False
        self.passed = 0  # bytes, both ways
        self.streams = set()  # cursors of change streams
        self._lock = threading.Lock()
        self._counts = collections.Counter()
        self._rules = []
        self._connections = set()
        self._server = None
        self._loop = Loop.get()
        self._loop.call(self._open())

    # ---- what tests see

    @property
    def address(self):
        return f"{self.listen}:{self.port}"

    def counts(self):
        """Requests since the last clear(), without what a driver does by itself."""
        with self._lock:
            return {k: n for k, n in self._counts.items() if not IDLE.match(k)}

    def clear(self):
        with self._lock:
            self._counts.clear()

    def on(self, pattern, action, skip=0, times=1):
        """times=-1: from now on always. The rule tells by .hits how often it was met."""
        assert action in ACTIONS, action
        rule = Rule(pattern, action, skip, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def forget(self):
        """No rules any more."""
        with self._lock:
            self._rules.clear()

    def reset(self):
        self._loop.call(self._reset())

    def cut(self):
        self._loop.call(self._close())

    def hang(self):
        self.hanging = True

    def restore(self):
        """No fault of any kind any more. What hung while it lasted is let go on."""
        self.delay, self.rate, self.hanging = 0.0, 0, False
        self.forget()
        self._loop.call(self._open())

    def close(self):
        self._loop.call(self._close())

    def connections(self):
        return len(self._connections)

    # ---- in the loop

    async def _open(self):
        """A port below those that the kernel gives to clients: one of them may take it while it is closed here, even to itself."""
        while self._server is None:
            port = self.port or random.SystemRandom().randrange(20000, 32000)
            try:
                self._server = await asyncio.start_server(self._serve, self.listen, port, limit=1 << 20, reuse_address=True, backlog=512)
                self.port = port
            except OSError as error:
                if self.port or error.errno != errno.EADDRINUSE:
                    raise

    async def _reset(self):
        for connection in list(self._connections):
            connection.abort()

    async def _close(self):
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _serve(self, reader, writer):
        connection = Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def begin(self, kind):
        with self._lock:
            self._counts[kind] += 1
            for rule in self._rules:
                action = rule.take(kind)
                if action:
                    return Request(kind, action)
        return Request(kind)


def nodelay(writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Connection:
    def __init__(self, proxy, reader, writer):
        self.proxy = proxy
        self.client = reader
        self.to_client = writer
        self.server = self.to_server = None
        self.gone = asyncio.Event()
        self.pending = collections.deque()

    def abort(self):
        """As a network that goes away: RST, and what was not sent yet is lost."""
        self.gone.set()
        for writer in (self.to_client, self.to_server):
            if writer is not None:
                try:
                    nodelay(writer).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                except OSError:
                    pass
                writer.transport.abort()

    async def run(self):
        nodelay(self.to_client)
        try:
            await self.gate()
            if self.gone.is_set():
                return
            self.server, self.to_server = await asyncio.open_connection(*self.proxy.target, limit=1 << 20)
            nodelay(self.to_server)
        except OSError:
            self.abort()
            return
        protocol = self.proxy.protocol(self)
        up = asyncio.ensure_future(self.pump(protocol.up, self.to_server))
        down = asyncio.ensure_future(self.pump(protocol.down, self.to_client))
        gone = asyncio.ensure_future(self.gone.wait())
        await asyncio.wait((down, gone), return_when=asyncio.FIRST_COMPLETED)
        if not self.gone.is_set():  # the server is done with it: so is the client
            await self.gate()
        up.cancel()
        down.cancel()
        gone.cancel()
        for writer in (self.to_client, self.to_server):
            writer.close()

    async def pump(self, work, target):
        try:
            await work()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
            pass
        try:
            if target.can_write_eof():
                target.write_eof()
        except (OSError, RuntimeError):
            pass

    async def gate(self):
        while self.proxy.hanging and not self.gone.is_set():
            await asyncio.sleep(0.02)

    async def send(self, writer, data):
        if self.proxy.hanging:
            await self.gate()
        if self.gone.is_set():
            raise ConnectionResetError
        self.proxy.passed += len(data)
        if self.proxy.rate:
            for start in range(0, len(data), 16 << 10):
                piece = data[start:start + (16 << 10)]
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(len(piece) / (self.proxy.rate or 1e12))
            return
        writer.write(data)
        await writer.drain()

    async def send_up(self, data):
        await self.send(self.to_server, data)

    async def send_down(self, data):
        await self.send(self.to_client, data)

    async def begin(self, kind):
        """A request has come. None: it goes no further."""
        request = self.proxy.begin(kind)
        if self.proxy.delay:
            await asyncio.sleep(self.proxy.delay)
        if request.action == "drop":
            self.abort()
            raise ConnectionResetError
        return request

    async def finish(self, request, reply):
        """The whole reply to a request with an action is here."""
        if request.action == "half":
            await self.send_down(reply[:len(reply) // 2])
        if request.action == "hold":
            await self.gone.wait()
        self.abort()
        raise ConnectionResetError


class Http:
    """One request after the other, as libcurl sends them."""
    SUBRESOURCES = ("uploads", "uploadId", "partNumber", "versions", "versioning", "lifecycle", "delete", "location", "list-type",
                    "tagging", "policy", "encryption", "object-lock")
    SLOW = (b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s")
    SLOW_XML = (b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate</Message></Error>")

    def __init__(self, connection):
        self.c = connection

    def kind(self, line, head):
        method, target, _ = line.split(" ", 2)
        path, _, query = target.partition("?")
        names = [n.partition("=")[0] for n in query.split("&") if n]
        found = next((s for s in ("partNumber", *self.SUBRESOURCES) if s in names), "")
        words = {("POST", "uploads"): "begin", ("POST", "uploadId"): "complete", ("DELETE", "uploadId"): "abort",
                 ("GET", "uploadId"): "parts", ("PUT", "partNumber"): "part", ("GET", "list-type"): "list"}
        kind = [method]
        if found:
            kind.append(words.get((method, found), found))
        elif "/" not in urllib.parse.unquote(path).strip("/"):
            kind.append("bucket")
        if "x-amz-copy-source" in head:
            kind.append("copy")
        return " ".join(kind)

    @staticmethod
    def parse(head):
        lines = head.decode("latin-1").split("\r\n")
        return lines[0], {n.strip().lower(): v.strip() for n, _, v in (x.partition(":") for x in lines[1:] if x)}

    async def body(self, reader, head, send):
        if head.get("transfer-encoding", "").lower() == "chunked":
            while True:
                line = await reader.readuntil(b"\r\n")
                await send(line)
                size = int(line.split(b";")[0], 16)
                await self.copy(reader, size + 2 if size else 0, send)
                if size == 0:
                    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
                        await send(line)
                    await send(line)
                    return
        else:
            await self.copy(reader, int(head.get("content-length", "0")), send)

    async def copy(self, reader, size, send):
        while size > 0:
            data = await reader.read(min(CHUNK, size))
            if not data:
                raise ConnectionResetError
            size -= len(data)
            await send(data)

    async def up(self):
        while True:
            raw = await self.c.client.readuntil(b"\r\n\r\n")
            line, head = self.parse(raw)
            request = await self.c.begin(self.kind(line, head))
            request.method = line.split(" ", 1)[0]
            if request.action == "slow":
                await self.body(self.c.client, head, self.nowhere)
                await self.c.send_down(self.SLOW % (len(self.SLOW_XML), b"" if request.method == "HEAD" else self.SLOW_XML))
                continue
            self.c.pending.append(request)
            await self.c.send_up(raw)
            await self.body(self.c.client, head, self.c.send_up)

    async def nowhere(self, data):
        pass

    async def down(self):
        while True:
            raw = await self.c.server.readuntil(b"\r\n\r\n")
            line, head = self.parse(raw)
            status = int(line.split(" ")[1])
            request = self.c.pending[0] if self.c.pending else Request("?")
            if status < 200:
                await self.c.send_down(raw)
                continue
            if self.c.pending:
                self.c.pending.popleft()
            kept = [raw]

            async def keep(data, kept=kept):
                kept.append(data)

            send = keep if request.action else self.c.send_down
            if not request.action:
                await self.c.send_down(raw)
            if getattr(request, "method", "") != "HEAD" and status not in (204, 304):
                await self.body(self.c.server, head, send)
            if request.action:
                await self.c.finish(request, b"".join(kept))


class Mongo:
    """OP_MSG; replies are found by responseTo, as an exhaust cursor or a monitor may have several."""
    OP_MSG, OP_QUERY = 2013, 2004

    def __init__(self, connection):
        self.c = connection
        self.open = {}
        proxy = connection.proxy
        # The server tells the driver its own address, and the driver would go there, past the proxy.
        self.real = f"{proxy.target[0]}:{proxy.target[1]}".encode()
        self.mine = proxy.address.encode()

    async def message(self, reader):
        head = await reader.readexactly(16)
        size, ident, to, code = struct.unpack("<iiii", head)
        if not 16 <= size <= 64 << 20:
            raise ValueError("a message of no size")
        return ident, to, code, head + await reader.readexactly(size - 16)

    def kind(self, code, data):
        if code == self.OP_QUERY:
            return "hello"
        if code != self.OP_MSG:
            return f"op {code}"
        at = 20
        while at < len(data):  # documents of an insert may come before the command
            if data[at] == 0:
                return self.command(data, at + 1)
            at += 1 + struct.unpack_from("<i", data, at + 1)[0]
        return "?"

    def command(self, data, at):
        end = data.index(b"\0", at + 5)
        name = data[at + 5:end].decode()
        if name == "getMore":
            if struct.unpack_from("<q", data, end + 1)[0] in self.c.proxy.streams:
                return "watch more"
            found = re.search(rb"\x02collection\0....([^\0]+)\0", data[at:at + 200], re.S)
            return f"getMore {found.group(1).decode() if found else ''}".strip()
        if name == "aggregate" and b"$changeStream\0" in data[at:at + 1000]:
            return "watch"
        if data[at + 4] == 2:
            size = struct.unpack_from("<i", data, end + 1)[0]
            return f"{name} {data[end + 5:end + 4 + size].decode()}"
        return name

    async def up(self):
        while True:
            ident, _, code, data = await self.message(self.c.client)
            request = await self.c.begin(self.kind(code, data))
            if code != self.OP_MSG or not struct.unpack_from("<I", data, 16)[0] & 2:
                self.open[ident] = request
            await self.c.send_up(data)

    async def down(self):
        while True:
            _, to, _, data = await self.message(self.c.server)
            request = self.open.pop(to, None)
            if (request is None or request.kind in ("hello", "ismaster", "isMaster")) and self.real in data:
                data = self.rewritten(data)
            if request is not None and request.kind == "watch":
                found = re.search(rb"\x12id\0(.{8})", data, re.S)
                if found:
                    self.c.proxy.streams.add(struct.unpack("<q", found.group(1))[0])
            if request is not None and request.action:
                await self.c.finish(request, data)
            await self.c.send_down(data)

    def rewritten(self, data):
        if len(self.real) != len(self.mine):
            raise ValueError("the addresses of server and proxy must be of one length")
        return data.replace(self.real, self.mine)


class Resp:
    """Requests and replies in order; what comes without a request is a published message."""

    def __init__(self, connection):
        self.c = connection

    async def value(self, reader):
        line = await reader.readuntil(b"\r\n")
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=!" and rest != b"-1":
            return line + await reader.readexactly(int(rest) + 2)
        if kind in b"*~>%" and rest != b"-1":
            parts = [line]
            for _ in range(int(rest) * (2 if kind == b"%" else 1)):
                parts.append(await self.value(reader))
            return b"".join(parts)
        return line

    @staticmethod
    def kind(data):
        if data[:1] != b"*":
            return data.split()[0].decode("latin-1").upper() if data.split() else "?"
        head = data.split(b"\r\n", 3)
        return head[2].decode("latin-1").upper() if len(head) > 2 else "?"

    async def up(self):
        while True:
            data = await self.value(self.c.client)
            request = await self.c.begin(self.kind(data))
            self.c.pending.append(request)
            await self.c.send_up(data)

    async def down(self):
        while True:
            data = await self.value(self.c.server)
            request = self.c.pending.popleft() if self.c.pending else None
            if request is not None and request.action:
                await self.c.finish(request, data)
            await self.c.send_down(data)


def quiet(proxies, seconds=0.3, limit=10):
    """Wait until no request has come for so long (periodic ones of the background aside); False at the limit."""
    end = time.monotonic() + limit
    last, since = None, time.monotonic()
    while time.monotonic() < end:
        now = [sum(p.counts().values()) for p in proxies]
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since >= seconds:
            return True
        time.sleep(0.02)
    return False
