"""Sends one request of RocketMQ's remoting protocol: rocketmq.py HOST:PORT CODE [FIELD=VALUE]...

Prints the header and the body of the answer. A frame is the length of the rest, the length of the header, the header
as JSON and the body; lengths are 4 bytes, and the first byte of the header's length is its format, 0 for JSON.
"""

import json
import socket
import struct
import sys

address, code, *fields = sys.argv[1:]
host, port = address.rsplit(":", 1)
header = json.dumps({
    "code": int(code),
    "language": "PYTHON",
    "version": 495,
    "opaque": 1,
    "flag": 0,
    "serializeTypeCurrentRPC": "JSON",
    "extFields": dict(field.split("=", 1) for field in fields),
}).encode()
with socket.create_connection((host, int(port)), 5) as connection, connection.makefile("rb") as answer:
    connection.sendall(struct.pack(">II", 4 + len(header), len(header)) + header)
    length, header_length = struct.unpack(">II", answer.read(8))
    header_length &= 0xFFFFFF
    print(answer.read(header_length).decode(), answer.read(length - 4 - header_length).decode())
