"""The transaction log has one schema, though three rooms write it and none of them may import another."""

from simulation.tables import TRANSACTIONS
from streaming.offline import TRANSACTION_LOG
from training.transaction_log import TRANSACTIONS_SCHEMA


def test_simulation_stream_and_import_write_the_same_columns() -> None:
    written = [[(field.name, field.type) for field in schema] for schema in (TRANSACTIONS, TRANSACTION_LOG)]
    imported = [(field.name, field.type) for field in TRANSACTIONS_SCHEMA]
    assert written == [imported, imported]
