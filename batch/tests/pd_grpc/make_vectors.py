#!/usr/bin/env python3
"""Writes vectors.txt: every message of batch/proto, filled, as Google's own protobuf encodes it.

It shares nothing with the library but the definitions: what it says about a message's bytes holds for every PD and every client.
Each line has the message's full name, its bytes in hex, and its content as Rust's `{:?}` prints it.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install grpcio-tools==1.85.1
    /tmp/venv/bin/python batch/tests/pd_grpc/make_vectors.py
"""

import pathlib
import re
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor as Field
from grpc_tools import protoc

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"
PACKAGES = ["metapb", "eraftpb", "replication_modepb", "pdpb"]

LARGEST = {
    Field.TYPE_UINT64: 2**64 - 1,
    Field.TYPE_UINT32: 2**32 - 1,
    Field.TYPE_INT64: -(2**63),
    Field.TYPE_INT32: -1,
}


def load():
    """All definitions, compiled by protoc."""
    with tempfile.NamedTemporaryFile(suffix=".pb") as out:
        files = [str(PROTO / f"{name}.proto") for name in PACKAGES]
        arguments = ["protoc", f"-I{PROTO}", "--include_imports", f"--descriptor_set_out={out.name}", *files]
        assert protoc.main(arguments) == 0
        found = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in found.file:
        pool.Add(file)
    return pool


def scalar(field, style, at):
    """A value that tells which field it belongs to, and which element of it."""
    number = 100 * field.number + at
    if field.type == Field.TYPE_BOOL:
        return True
    if field.type == Field.TYPE_ENUM:
        return field.enum_type.values[-1 - at % len(field.enum_type.values)].number
    if field.type == Field.TYPE_STRING:
        return f"{field.name} {at}" if style == "plain" else "\u00fc\u20ac"
    if field.type == Field.TYPE_BYTES:
        return f"k{number}".encode() if style == "plain" else bytes([0, 0xFF, 0x80])
    return number if style == "plain" else LARGEST[field.type]


def fill(message, style):
    for field in message.DESCRIPTOR.fields:
        for at in range(2 if field.is_repeated and style == "plain" else 1):
            if field.message_type is not None:
                fill(getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name), style)
                if not field.is_repeated:
                    getattr(message, field.name).SetInParent()
            elif field.is_repeated:
                getattr(message, field.name).append(scalar(field, style, at))
            else:
                setattr(message, field.name, scalar(field, style, at))
    return message


def snake(name):
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return "r#type" if name == "type" else name


def rust_type(name):
    return re.sub(r"ID$", "Id", re.sub(r"^DR(?=[A-Z])", "Dr", name)).replace("ID", "Id")


def variant(name):
    """PEER_STATE and PeerState are both PeerState in Rust."""
    return "".join(word[0] + word[1:].lower() for word in name.split("_")) if name.isupper() else name


def rust_scalar(field, value):
    if field.type == Field.TYPE_BOOL:
        return "true" if value else "false"
    if field.type == Field.TYPE_ENUM:
        return variant(field.enum_type.values_by_number[value].name)
    if field.type == Field.TYPE_STRING:
        return f'"{value}"'
    if field.type == Field.TYPE_BYTES:
        return "[" + ", ".join(str(byte) for byte in value) + "]"
    return str(value)


def rust(message):
    parts = []
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        one = rust if field.message_type is not None else lambda value, field=field: rust_scalar(field, value)
        if field.is_repeated:
            text = "[" + ", ".join(one(element) for element in value) + "]"
        elif field.message_type is not None:
            text = f"Some({one(value)})" if message.HasField(field.name) else "None"
        else:
            text = one(value)
        parts.append(f"{snake(field.name)}: {text}")
    name = rust_type(message.DESCRIPTOR.name)
    return f"{name} {{ {', '.join(parts)} }}" if parts else name


def main():
    pool = load()
    lines = []
    for package in PACKAGES:
        file = pool.FindFileByName(f"{package}.proto")
        for name in sorted(file.message_types_by_name):
            kind = message_factory.GetMessageClass(file.message_types_by_name[name])
            for style in ["plain", "extreme"]:
                message = fill(kind(), style)
                lines.append(f"{package}.{name}\t{message.SerializeToString(deterministic=True).hex()}\t{rust(message)}\n")
    (HERE / "vectors.txt").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
