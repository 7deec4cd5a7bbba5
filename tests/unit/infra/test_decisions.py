import json

import pyarrow as pa

from infra import rendering
from infra.decisions import PREFIX
from infra.stacks import STACKS
from monitoring.shipping import SCHEMA

DATA, SERVING = (rendering.as_data(stack)["Resources"] for stack in STACKS if stack.name in ("data", "serving"))


def spelt(kind: pa.DataType) -> str:
    """Return an Arrow type as Hive spells it."""
    if pa.types.is_list(kind):
        return f"array<{spelt(kind.value_type)}>"
    if pa.types.is_map(kind):
        return f"map<{spelt(kind.key_type)},{spelt(kind.item_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{field.name}:{spelt(field.type)}' for field in kind)}>"
    return {"int64": "bigint", "bool": "boolean"}.get(str(kind), str(kind))


def test_table_has_the_columns_that_shipped_logs_have() -> None:
    storage = SERVING["DecisionsTable"]["Properties"]["TableInput"]["StorageDescriptor"]
    declared = {column["Name"]: column["Type"] for column in storage["Columns"]}
    assert declared == {field.name: spelt(field.type) for field in SCHEMA}


def test_stream_writes_where_the_table_looks_and_by_its_schema() -> None:
    stream = SERVING["Decisions"]["Properties"]["ExtendedS3DestinationConfiguration"]
    table = SERVING["DecisionsTable"]["Properties"]["TableInput"]
    assert stream["Prefix"] == f"{PREFIX}dt=!{{timestamp:yyyy-MM-dd}}/hour=!{{timestamp:HH}}/"
    assert f"/{PREFIX}dt=${{!dt}}/hour=${{!hour}}/" in json.dumps(table["Parameters"]["storage.location.template"])
    assert [key["Name"] for key in table["PartitionKeys"]] == ["dt", "hour"]
    schema = stream["DataFormatConversionConfiguration"]["SchemaConfiguration"]
    assert schema["TableName"] == {"Ref": "DecisionsTable"}
    assert schema["DatabaseName"] == DATA["Catalogue"]["Properties"]["DatabaseInput"]["Name"]


def test_scorer_may_put_records_to_that_stream_and_read_its_password_and_no_more_of_either() -> None:
    statements = SERVING["ScorerRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    by_sid = {statement["Sid"]: statement for statement in statements}
    assert by_sid["Delivery"]["Action"] == ["firehose:PutRecordBatch"]
    assert "deliverystream/tollgate-${Environment}-decisions" in json.dumps(by_sid["Delivery"]["Resource"])
    assert SERVING["Decisions"]["Properties"]["DeliveryStreamName"] == {"Fn::Sub": "tollgate-${Environment}-decisions"}
    assert by_sid["StorePassword"]["Action"] == ["secretsmanager:GetSecretValue"]
    assert by_sid["StorePassword"]["Resource"] == [{"Ref": "DataStoreScorerPasswordArn"}]
    others = [s for s in statements if s["Sid"] not in ("Delivery", "StorePassword")]
    assert "firehose:" not in json.dumps(others)
    assert "secretsmanager:" not in json.dumps(others)
