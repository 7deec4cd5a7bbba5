"""The transaction log has one schema, though three rooms write it and none of them may import another."""

from simulation.tables import TRANSACTIONS
from stores import log
from streaming.offline import TRANSACTION_LOG
from training.transaction_log import LABELS_SCHEMA, TRANSACTIONS_SCHEMA


def test_simulation_stream_and_import_write_the_same_columns() -> None:
    written = [[(field.name, field.type) for field in schema] for schema in (TRANSACTIONS, TRANSACTION_LOG)]
    imported = [(field.name, field.type) for field in TRANSACTIONS_SCHEMA]
    assert written == [imported, imported]


def test_the_offline_store_demands_of_the_log_what_is_written_there() -> None:
    assert all(field.equals(TRANSACTIONS_SCHEMA.field(field.name)) for field in log.LOG_SCHEMA)
    assert all(field.type == LABELS_SCHEMA.field(field.name).type for field in log.LABELS_SCHEMA)
