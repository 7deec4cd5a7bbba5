"""Where one machine ends: the windows of a log on one machine and on Spark in local mode, rows a second and memory.

The log of :mod:`bench.history`; every window of card, device, ip and merchant at each transaction, to Parquet: by the
offline store's kernels in one process, and by ``training/spark_job.py`` with all cores of this machine. Spark is timed
from the start of the job to its end, with its session up already; the start of the session is told apart. Memory is
that of the process and of all it started (the JVM and its Python workers), looked at ten times a second. Rows of both
are compared bit for bit. Without pyspark or Java only the single machine is measured, and said so.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from bench.history_ways import ROOT, make_lake
from fraud.velocity import feature_names
from fraud.windows import ENTITIES

WAYS: Final = ("one machine", "Spark, local mode")


class Peak(threading.Thread):
    """Watches the memory of this process and all below it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mb = 0.0

    def run(self) -> None:
        """Look until the process ends."""
        me = psutil.Process()
        while True:
            held = 0
            for one in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    held += one.memory_info().rss
            self.mb = max(self.mb, held / 2**20)
            time.sleep(0.1)


def one_machine(lake: Path, out: Path) -> dict[str, float]:
    """Evaluate every window in this process and write it; return seconds."""
    from stores.files import Location
    from stores.log import load_log
    from stores.windows_join import Asked, velocity_arrays
    from training.dataset import entity_rows, read_log

    begin = time.monotonic()
    asked = entity_rows(read_log(lake, 0, 2**42))
    times = asked["event_time_ms"].to_numpy()
    found = velocity_arrays(
        load_log(Location(str(lake))), Asked(asked, times, asked["amount_minor"].to_numpy()), feature_names()
    )
    pq.write_table(pa.table({"transaction_id": asked["transaction_id"]} | found), out)
    return {"seconds": time.monotonic() - begin}


def spark(lake: Path, out: Path) -> dict[str, float]:
    """Run the job in local mode; return seconds, and those of starting the session."""
    from pyspark.sql import SparkSession

    from training.spark_job import arguments, run

    begin = time.monotonic()
    session = (
        SparkSession.builder.master("local[*]")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.memory", "4g")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    started = time.monotonic() - begin
    begin = time.monotonic()
    parts = str(max(4, (os.cpu_count() or 1) * 4))
    run(session, arguments(["--log", str(lake / "transactions"), "--out", str(out), "--parts", parts]))
    seconds = time.monotonic() - begin
    session.stop()
    return {"seconds": seconds, "session_seconds": started}


def differing(one: Path, other: Path) -> int:
    """Return how many values of Spark's rows are not the single machine's, lost rows counted whole."""
    ours = pq.read_table(one).sort_by("transaction_id")
    count = 0
    for entity in ENTITIES:
        theirs = pq.read_table(other / entity).sort_by("transaction_id")
        names = feature_names((entity,))
        if not theirs["transaction_id"].equals(ours["transaction_id"]):
            count += len(ours) * len(names)
            continue
        for name in names:
            mine, its = (pc.cast(table[name], pa.float64()).to_numpy() for table in (ours, theirs))
            count += int((~((mine == its) | (np.isnan(mine) & np.isnan(its)))).sum())
    return count


def ask_process(way: str, folder: Path) -> dict[str, Any]:
    """Measure one way in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main(
    rows: Annotated[int, typer.Option(help="Transactions.", min=1_000)] = 300_000,
    folder: Annotated[Path, typer.Option(help="Where the files are made.")] = ROOT / "build" / "bench" / "spark_line",
    way: Annotated[str | None, typer.Option(help="Measure one way here and print JSON.", hidden=True)] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Evaluate all windows of a log on one machine and on Spark; print rows a second, memory, values that differ."""
    lake, places = folder / "lake", {WAYS[0]: folder / "one.parquet", WAYS[1]: folder / "spark"}
    if way is not None:
        peak = Peak()
        peak.start()
        made = one_machine(lake, places[way]) if way == WAYS[0] else spark(lake, places[way])
        typer.echo(json.dumps(made | {"peak_mb": peak.mb}))
        return
    shutil.rmtree(folder, ignore_errors=True)
    make_lake(rows, lake)
    there = importlib.util.find_spec("pyspark") is not None and shutil.which("java") is not None
    figures: dict[str, Any] = {name: ask_process(name, folder) for name in WAYS[: 1 + there]}
    table = Table("", "s", "rows/s", "peak MB", "session s", title=f"Every window at {rows:,} transactions, to Parquet")
    for name, some in figures.items():
        some["rows_per_second"] = round(rows / some["seconds"])
        session = f"{some['session_seconds']:.1f}" if "session_seconds" in some else ""
        table.add_row(
            name, f"{some['seconds']:.1f}", f"{some['rows_per_second']:,}", f"{some['peak_mb']:,.0f}", session
        )
    Console().print(table)
    if there:
        figures["differ"] = differing(places[WAYS[0]], places[WAYS[1]])
        typer.echo(f"values that differ: {figures['differ']}")
    else:
        typer.echo("Spark was not measured: pyspark or Java is missing; make test-spark installs pyspark")
    shutil.rmtree(folder, ignore_errors=True)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures | {"rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
