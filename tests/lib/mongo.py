"""A MongoDB client of the tests' own: OP_MSG over a socket, as much BSON as is needed to look at an index by hand."""
import os
import socket
import struct


class Binary(bytes):
    subtype = 0


class Int32(int):
    pass


def element(name, value):
    key = name.encode() + b"\0"
    if isinstance(value, bool):
        return b"\x08" + key + bytes((value,))
    if isinstance(value, Int32):
        return b"\x10" + key + struct.pack("<i", value)
    if isinstance(value, int):
        return b"\x12" + key + struct.pack("<q", value)
    if isinstance(value, float):
        return b"\x01" + key + struct.pack("<d", value)
    if isinstance(value, str):
        text = value.encode() + b"\0"
        return b"\x02" + key + struct.pack("<i", len(text)) + text
    if isinstance(value, bytes):
        return b"\x05" + key + struct.pack("<iB", len(value), 0) + value
    if isinstance(value, dict):
        return b"\x03" + key + encode(value)
    if isinstance(value, (list, tuple)):
        return b"\x04" + key + encode({str(n): v for n, v in enumerate(value)})
    if value is None:
        return b"\x0a" + key
    raise TypeError(type(value))


def encode(document):
    body = b"".join(element(k, v) for k, v in document.items()) + b"\0"
    return struct.pack("<i", len(body) + 4) + body


def decode(data, at=0):
    end = at + struct.unpack_from("<i", data, at)[0] - 1
    at += 4
    found = {}
    while at < end:
        kind = data[at]
        stop = data.index(b"\0", at + 1)
        name = data[at + 1:stop].decode("utf-8", "replace")
        found[name], at = value_of(kind, data, stop + 1)
    return found


def value_of(kind, data, at):
    if kind in (0x03, 0x04):
        size = struct.unpack_from("<i", data, at)[0]
        inner = decode(data, at)
        return (list(inner.values()) if kind == 4 else inner), at + size
    if kind in (0x02, 0x0d, 0x0e):
        size = struct.unpack_from("<i", data, at)[0]
        return data[at + 4:at + 3 + size].decode("utf-8", "replace"), at + 4 + size
    if kind == 0x05:
        size = struct.unpack_from("<i", data, at)[0]
        value = Binary(data[at + 5:at + 5 + size])
        return value, at + 5 + size
    simple = {0x01: "<d", 0x09: "<q", 0x10: "<i", 0x11: "<Q", 0x12: "<q"}
    if kind in simple:
        return struct.unpack_from(simple[kind], data, at)[0], at + struct.calcsize(simple[kind])
    if kind == 0x07:
        return data[at:at + 12].hex(), at + 12
    if kind == 0x08:
        return bool(data[at]), at + 1
    if kind in (0x06, 0x0a, 0xff, 0x7f):
        return None, at
    raise ValueError(f"BSON of kind {kind:#x}")


class MongoError(Exception):
    def __init__(self, reply):
        super().__init__(f"{reply.get('code')} {reply.get('codeName')}: {reply.get('errmsg')}")
        self.code = reply.get("code")


class Client:
    def __init__(self, host, port, seconds=20):
        self.sock = socket.create_connection((host, port), seconds)
        self.number = 0

    def close(self):
        self.sock.close()

    def command(self, database, **words):
        self.number += 1
        body = struct.pack("<IB", 0, 0) + encode({**words, "$db": database})
        self.sock.sendall(struct.pack("<iiii", len(body) + 16, self.number, 0, 2013) + body)
        head = self.read(16)
        data = self.read(struct.unpack_from("<i", head)[0] - 16)
        reply = decode(data, 5)
        if not reply.get("ok") or reply.get("writeErrors"):
            raise MongoError(reply if not reply.get("ok") else reply["writeErrors"][0])
        return reply

    def read(self, size):
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            if not more:
                raise ConnectionError("MongoDB has closed the connection")
            data += more
        return data

    def find(self, database, collection, query=None, limit=10000):
        reply = self.command(database, find=collection, filter=query or {}, batchSize=limit)
        return reply["cursor"]["firstBatch"]


def login(client, user, password, database="admin"):
    """SCRAM-SHA-256, as the servers ask for with --auth."""
    import base64
    import hashlib
    import hmac
    nonce = base64.b64encode(os.urandom(18)).decode()
    bare = f"n={user},r={nonce}"
    reply = client.command(database, saslStart=Int32(1), mechanism="SCRAM-SHA-256", payload=f"n,,{bare}".encode(),
                           options={"skipEmptyExchange": True})
    first = reply["payload"].decode()
    said = dict(p.split("=", 1) for p in first.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(said["s"]), int(said["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    final = f"c=biws,r={said['r']}"
    sign = hmac.digest(hashlib.sha256(key).digest(), f"{bare},{first},{final}".encode(), "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, sign))).decode()
    reply = client.command(database, saslContinue=Int32(1), conversationId=Int32(reply["conversationId"]),
                           payload=f"{final},p={proof}".encode())
    while not reply.get("done"):
        reply = client.command(database, saslContinue=Int32(1), conversationId=Int32(reply["conversationId"]), payload=b"")
