"""A DynamoDB on loopback for the length of a test, and what it holds.

moto's own server answers in many threads without a lock around condition and write, which DynamoDB guarantees for each
item. Here it answers one request at a time.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from stores.dynamodb_layout import entity_id, table_name
from stores.dynamodb_tables import Tables, connect_tables
from stores.layout import Value, decode_value
from tests.support.emulators import REGION, await_port, aws_environment, free_port

Key = tuple[Entity, str]

_SERVER = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
make_server("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app)).serve_forever()
"""


@contextmanager
def start_dynamodb(port: int | None = None) -> Iterator[str]:
    """Run moto in its own process, one request at a time; yield its address."""
    port = port or free_port()
    command = [sys.executable, "-c", _SERVER, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=aws_environment())
    try:
        await_port(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def open_tables(endpoint: str, *, attempts: int = 1) -> Iterator[Tables]:
    tables = connect_tables(REGION, endpoint, attempts=attempts)
    try:
        yield tables
    finally:
        tables.close()


def empty_velocity_tables(tables: Tables) -> None:
    """Leave one empty table for each velocity view of the project ``fraud``."""
    names = [table_name("fraud", f"{entity}_velocity") for entity in ENTITIES]
    tables.delete(names)
    tables.create(names)


def everything(tables: Tables) -> dict[tuple[str, str], dict[str, Any]]:
    """Return every item of every table, by table and key."""
    out: dict[tuple[str, str], dict[str, Any]] = {}
    for name in tables.client.list_tables()["TableNames"]:
        for page in tables.client.get_paginator("scan").paginate(TableName=name):
            out.update(((name, item["entity_id"]["S"]), item) for item in page["Items"])
    return out


def held_states(tables: Tables, keys: Iterable[Key]) -> dict[Key, bytes]:
    """Return the states that the store holds; an absent one is left out."""
    held = _values(tables, keys, "state")
    return {key: value for key, value in held.items() if isinstance(value, bytes)}


def held_revisions(tables: Tables, keys: Iterable[Key]) -> dict[Key, int]:
    held = _values(tables, keys, "revision")
    return {key: value for key, value in held.items() if isinstance(value, int)}


def _values(tables: Tables, keys: Iterable[Key], feature: str) -> dict[Key, Value]:
    items, out = everything(tables), {}
    for entity, key in keys:
        item = items.get((table_name("fraud", f"{entity}_velocity"), entity_id(JOIN_KEYS[entity], key)))
        if item is not None:
            out[entity, key] = decode_value(item["values"]["M"][f"{entity}_{feature}"]["B"])
    return out
