"""Every service of AWS that is spoken with from the subnets has a way there: they have no other."""

import ast
import re
from pathlib import Path

import botocore.session

from infra import rendering
from infra.network import INTERFACES
from infra.stacks import STACKS
from infra.trees import ROOMS

ROOT = Path(__file__).resolve().parents[3]
SPEAKERS = frozenset({"client", "AwsCalls", "Signer", "SignedConnections", "service_host"})
"""Calls whose text arguments name a service."""

ENDPOINTS = {
    "cloudwatch": "monitoring",
    "firehose": "kinesis-firehose",
    "kinesis": "kinesis-streams",
    "sagemaker": "sagemaker.api",
    "sagemaker-runtime": "sagemaker.runtime",
    "secretsmanager": "secretsmanager",
}
GATEWAYS = frozenset({"s3", "dynamodb"})
OUTSIDE = {"lambda": frozenset({"infra"})}
"""Rooms in an image that run outside the subnets: the deployer's function."""


def services(path: Path, known: frozenset[str]) -> set[str]:
    """Return the services that a module makes clients of."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    looped = {
        item.value
        for node in ast.walk(tree)
        if isinstance(node, ast.comprehension) and isinstance(node.iter, ast.Tuple)
        for item in node.iter.elts
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in SPEAKERS:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.add(first.value)
            elif isinstance(first, ast.Name):
                found |= looped
    return found & known


def test_every_client_in_the_subnets_has_an_endpoint() -> None:
    known = frozenset(botocore.session.get_session().get_available_services())
    rooms = {room for image, rooms in ROOMS.items() for room in rooms if room not in OUTSIDE.get(image, ())}
    modules = [path for room in sorted(rooms) for path in (ROOT / room).rglob("*.py")]
    spoken = set().union(*(services(path, known) for path in modules))
    assert spoken >= {"s3", "kinesis", "sagemaker", "secretsmanager", "dynamodb", "firehose"}
    assert {ENDPOINTS[service] for service in spoken - GATEWAYS} <= set(INTERFACES)


def test_every_endpoint_is_in_the_template() -> None:
    (network,) = (rendering.as_data(stack) for stack in STACKS if stack.name == "network")
    declared = [
        re.sub(r"com\.amazonaws\.\$\{AWS::Region\}\.", "", item["Properties"]["ServiceName"]["Fn::Sub"])
        for item in network["Resources"].values()
        if item["Type"] == "AWS::EC2::VPCEndpoint"
    ]
    assert sorted(declared) == sorted((*INTERFACES, *GATEWAYS))
