"""Decisions: the delivery stream that the scorer writes to, and the table of what it leaves in the bucket.

Firehose turns the scorer's lines into Parquet by the columns of :mod:`fraud.decision_table`, partitioned by the hour of
their arrival. Athena finds partitions by projection: nothing has to crawl. A line that is no row lands beside the
table, whole.
"""

from typing import Any, Final

from troposphere import GetAtt, Ref, Sub, firehose, glue

from fraud.decision_table import COLUMNS, hive_type
from infra.blueprint import Blueprint, allow, arn, key_use, name
from infra.names import DECISIONS

PREFIX: Final = "decisions/table/"
FAILED: Final = "decisions/failed/"
TABLE: Final = "decisions"
BUFFER_MB: Final = 128
BUFFER_S: Final = 300
"""A file holds five minutes at most."""

_DATABASE: Final = "tollgate_${Environment}"
_PARQUET: Final = "org.apache.hadoop.hive.ql.io.parquet"


def add_decisions(blueprint: Blueprint, key: Any) -> Any:
    """Add table, role and delivery stream; return the right to write to it."""
    bucket = blueprint.take("data", "bucket-arn")
    database = blueprint.take("data", "database")
    table = blueprint.add(_table(blueprint, database))
    group = blueprint.log_group("DeliveryLog", Sub("/aws/kinesisfirehose/tollgate-${Environment}-decisions"), key)
    role = blueprint.role("DeliveryRole", "delivery", "firehose", _permissions(bucket, key, group))
    blueprint.add(_stream(bucket, key, group, role, table))
    return allow("Delivery", ["firehose:PutRecordBatch"], [arn("firehose", f"deliverystream/{_name()}")])


def _name() -> str:
    return f"tollgate-${{Environment}}-{DECISIONS}"


def _table(blueprint: Blueprint, database: Any) -> Any:
    location = Sub(f"s3://${{Bucket}}/{PREFIX}", Bucket=blueprint.take("data", "bucket"))
    template = Sub(f"s3://${{Bucket}}/{PREFIX}dt=${{!dt}}/hour=${{!hour}}/", Bucket=blueprint.take("data", "bucket"))
    projection = {
        "classification": "parquet",
        "projection.enabled": "true",
        "projection.dt.type": "date",
        "projection.dt.format": "yyyy-MM-dd",
        "projection.dt.range": "2020-01-01,NOW",
        "projection.hour.type": "integer",
        "projection.hour.range": "0,23",
        "projection.hour.digits": "2",
        "storage.location.template": template,
    }
    storage = glue.StorageDescriptor(
        Columns=[glue.Column(Name=column.name, Type=hive_type(column.kind)) for column in COLUMNS],
        Location=location,
        InputFormat=f"{_PARQUET}.MapredParquetInputFormat",
        OutputFormat=f"{_PARQUET}.MapredParquetOutputFormat",
        SerdeInfo=glue.SerdeInfo(SerializationLibrary=f"{_PARQUET}.serde.ParquetHiveSerDe"),
    )
    return glue.Table(
        "DecisionsTable",
        CatalogId=Ref("AWS::AccountId"),
        DatabaseName=database,
        TableInput=glue.TableInput(
            Name=TABLE,
            TableType="EXTERNAL_TABLE",
            Parameters=projection,
            PartitionKeys=[glue.Column(Name="dt", Type="string"), glue.Column(Name="hour", Type="string")],
            StorageDescriptor=storage,
        ),
    )


def _permissions(bucket: Any, key: Any, group: Any) -> list[dict[str, Any]]:
    catalog = [arn("glue", part) for part in ("catalog", f"database/{_DATABASE}", f"table/{_DATABASE}/{TABLE}")]
    written = [Sub(f"${{Bucket}}/{prefix}*", Bucket=bucket) for prefix in (PREFIX, FAILED)]
    return [
        allow("Write", ["s3:AbortMultipartUpload", "s3:PutObject"], written),
        allow("Bucket", ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"], [bucket]),
        allow("Schema", ["glue:GetTable", "glue:GetTableVersion", "glue:GetTableVersions"], catalog),
        key_use(key, write=True),
        allow("Log", ["logs:PutLogEvents"], [GetAtt(group, "Arn")]),
    ]


def _stream(bucket: Any, key: Any, group: Any, role: Any, table: Any) -> Any:
    conversion = firehose.DataFormatConversionConfiguration(
        Enabled=True,
        InputFormatConfiguration=firehose.InputFormatConfiguration(
            Deserializer=firehose.Deserializer(
                # Keys of maps stay as the lines have them.
                OpenXJsonSerDe=firehose.OpenXJsonSerDe(CaseInsensitive=False)
            )
        ),
        OutputFormatConfiguration=firehose.OutputFormatConfiguration(
            Serializer=firehose.Serializer(ParquetSerDe=firehose.ParquetSerDe(Compression="SNAPPY"))
        ),
        SchemaConfiguration=firehose.SchemaConfiguration(
            CatalogId=Ref("AWS::AccountId"),
            DatabaseName=Sub(_DATABASE),
            Region=Ref("AWS::Region"),
            RoleARN=GetAtt(role, "Arn"),
            TableName=Ref(table),
            VersionId="LATEST",
        ),
    )
    destination = firehose.ExtendedS3DestinationConfiguration(
        BucketARN=bucket,
        BufferingHints=firehose.BufferingHints(IntervalInSeconds=BUFFER_S, SizeInMBs=BUFFER_MB),
        CloudWatchLoggingOptions=firehose.CloudWatchLoggingOptions(
            Enabled=True, LogGroupName=Ref(group), LogStreamName="S3Delivery"
        ),
        CompressionFormat="UNCOMPRESSED",  # Parquet compresses its own columns
        DataFormatConversionConfiguration=conversion,
        EncryptionConfiguration=firehose.EncryptionConfiguration(
            KMSEncryptionConfig=firehose.KMSEncryptionConfig(AWSKMSKeyARN=key)
        ),
        ErrorOutputPrefix=f"{FAILED}!{{firehose:error-output-type}}/dt=!{{timestamp:yyyy-MM-dd}}/",
        Prefix=f"{PREFIX}dt=!{{timestamp:yyyy-MM-dd}}/hour=!{{timestamp:HH}}/",
        RoleARN=GetAtt(role, "Arn"),
    )
    return firehose.DeliveryStream(
        "Decisions",
        DeliveryStreamName=name(DECISIONS),
        DeliveryStreamType="DirectPut",
        DeliveryStreamEncryptionConfigurationInput=firehose.DeliveryStreamEncryptionConfigurationInput(
            KeyARN=key, KeyType="CUSTOMER_MANAGED_CMK"
        ),
        ExtendedS3DestinationConfiguration=destination,
    )
