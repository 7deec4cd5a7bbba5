"""The lake's tables for Athena, and who may ask them: the log is declared here, decisions are by serving.

Nothing is copied and nothing has to be told of new days: partitions follow from their names. Training sets are made by
our offline store, which joins as of a time; SQL does not, and nobody should train on what it returns unguarded.
"""

from typing import Any, Final

from troposphere import Ref, Sub, athena, glue, iam

from infra.blueprint import Blueprint, allow, arn, document, key_use, name

COLUMNS: Final = (
    ("transaction_id", "string"),
    ("card_id", "string"),
    ("merchant_id", "string"),
    ("device_id", "string"),
    ("ip", "string"),
    ("amount_minor", "bigint"),
    ("currency", "string"),
    ("event_timestamp", "timestamp"),
    ("created_timestamp", "timestamp"),
    ("channel", "string"),
    ("merchant_category", "int"),
    ("country", "string"),
    ("latitude", "double"),
    ("longitude", "double"),
    ("authorised", "boolean"),
)
"""Columns of the log as Athena calls their types, in order."""

DATABASE: Final = "tollgate_${Environment}"
READ: Final = ("transactions/", "decisions/table/")
RESULTS: Final = "queries/"
MOST_SCANNED: Final = 1_000_000_000_000
"""Bytes after which a query is stopped: some five dollars."""

_INPUT: Final = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
_OUTPUT: Final = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"
_SERDE: Final = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"


def add_analysis(blueprint: Blueprint, key: Any, lake: Any) -> None:
    """Add the table, a workgroup that encrypts and bounds what it is asked, and a policy for those who ask."""
    database = blueprint.add(
        glue.Database(
            "Catalogue",
            CatalogId=Ref("AWS::AccountId"),
            DatabaseInput=glue.DatabaseInput(Name=Sub(DATABASE), Description="The lake, as tables for Athena."),
        )
    )
    blueprint.add(
        glue.Table(
            "TransactionLog",
            CatalogId=Ref("AWS::AccountId"),
            DatabaseName=Ref(database),
            TableInput=_log(lake),
        )
    )
    encryption = athena.EncryptionConfiguration(EncryptionOption="SSE_KMS", KmsKey=key)
    results = athena.ResultConfiguration(
        EncryptionConfiguration=encryption, OutputLocation=Sub(f"s3://${{Lake}}/{RESULTS}")
    )
    workgroup = blueprint.add(
        athena.WorkGroup(
            "Questions",
            Name=name("questions"),
            Description="Questions to the transaction log.",
            WorkGroupConfiguration=athena.WorkGroupConfiguration(
                BytesScannedCutoffPerQuery=MOST_SCANNED,
                EnforceWorkGroupConfiguration=True,
                EngineVersion=athena.EngineVersion(SelectedEngineVersion="Athena engine version 3"),
                PublishCloudWatchMetricsEnabled=True,
                ResultConfiguration=results,
            ),
        )
    )
    policy = iam.ManagedPolicy(
        "AnalystsPolicy",
        ManagedPolicyName=name("analysts"),
        Description="Lets somebody ask the log and the decisions questions, and read nothing else.",
        PolicyDocument=document(*_permissions(key)),
    )
    blueprint.add(policy)
    blueprint.give("database", Ref(database))
    blueprint.give("questions", Ref(workgroup))
    blueprint.give("analysts-policy-arn", Ref(policy))


def _log(lake: Any) -> Any:
    storage = glue.StorageDescriptor(
        Columns=[glue.Column(Name=column, Type=kind) for column, kind in COLUMNS],
        InputFormat=_INPUT,
        OutputFormat=_OUTPUT,
        SerdeInfo=glue.SerdeInfo(SerializationLibrary=_SERDE),
        Location=Sub("s3://${Bucket}/transactions/", Bucket=Ref(lake)),
    )
    projection = {
        "classification": "parquet",
        "projection.enabled": "true",
        "projection.dt.type": "date",
        "projection.dt.format": "yyyy-MM-dd",
        "projection.dt.range": "2015-01-01,NOW+1DAYS",
    }
    return glue.TableInput(
        Name="transactions",
        Description="One row a transaction; dt is the day of its event time, UTC.",
        TableType="EXTERNAL_TABLE",
        Parameters=projection,
        PartitionKeys=[glue.Column(Name="dt", Type="string")],
        StorageDescriptor=storage,
    )


def _permissions(key: Any) -> list[dict[str, Any]]:
    bucket = "arn:${AWS::Partition}:s3:::${Lake}"
    prefixes = {"StringLike": {"s3:prefix": [*(f"{prefix}*" for prefix in READ), f"{RESULTS}*"]}}
    ask = [
        "athena:GetQueryExecution",
        "athena:GetQueryResults",
        "athena:GetWorkGroup",
        "athena:StartQueryExecution",
        "athena:StopQueryExecution",
    ]
    tables = [arn("glue", "catalog"), arn("glue", f"database/{DATABASE}"), arn("glue", f"table/{DATABASE}/*")]
    look = ["glue:GetDatabase", "glue:GetPartitions", "glue:GetTable", "glue:GetTables"]
    return [
        allow("Ask", ask, [arn("athena", "workgroup/tollgate-${Environment}-questions")]),
        allow("Catalogue", look, tables),
        allow("Tables", ["s3:GetObject"], [Sub(f"{bucket}/{prefix}*") for prefix in READ]),
        allow("Results", ["s3:GetObject", "s3:PutObject"], [Sub(f"{bucket}/{RESULTS}*")]),
        allow("Bucket", ["s3:ListBucket"], [Sub(bucket)], prefixes),
        allow("BucketPlace", ["s3:GetBucketLocation"], [Sub(bucket)]),
        key_use(key, write=True),
    ]
