"""Why a row is dropped: stage, reason and evidence, as the ledger has them."""

import pyarrow as pa
import pyarrow.compute as pc

# Rows that a step over the whole pool drops, by row number.
DROPPED = pa.schema([("row", pa.int64()), ("reason", pa.string()), ("evidence", pa.string())])


def with_drop_reason(
    table: pa.Table, stage: str, reason: str, evidence: list[str | None]
) -> pa.Table:
    """The table with stage, reason and evidence set in the rows that have evidence."""
    texts = pa.array(evidence, pa.string())
    mask = pc.is_valid(texts)
    for name, value in {"stage": stage, "reason": reason, "evidence": texts}.items():
        column = pc.if_else(mask, value, table[name])
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table
