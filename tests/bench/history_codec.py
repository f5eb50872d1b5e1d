"""Speed and size of the history codecs: ``python tests/bench/history_codec.py [rows]``. Prints; asserts nothing.

The series is what a training run logs: two noisy full-entropy doubles (loss, acc), one rounded to four digits
(grad_norm), one smooth schedule (lr), with timestamps of a millisecond. Best of several repetitions.
"""

import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from labkeep.core import columns
from labkeep.storage import chunks, reductions, segments, series

METRICS = ("loss", "acc", "grad_norm", "lr")


def data(n: int, seed: int = 0) -> tuple[list[int], list[float], dict[str, list[float]]]:
    rnd = random.Random(seed)
    clock, seconds = 1_760_000_000_000, []
    for _ in range(n):
        clock += rnd.randint(80, 140)
        seconds.append(clock / 1000)
    values = {
        "loss": [2.5 * math.exp(-3 * i / n) + 0.05 * rnd.gauss(0, 1) for i in range(n)],
        "acc": [1 - math.exp(-3 * i / n) + 0.02 * rnd.gauss(0, 1) for i in range(n)],
        "grad_norm": [round(abs(rnd.gauss(1, 0.3)), 4) for _ in range(n)],
        "lr": [0.05 * (1 + math.cos(math.pi * i / n)) for i in range(n)],
    }
    return list(range(n)), seconds, values


def timed(name: str, points: int, work: Callable[[], Any], repeat: int = 7) -> Any:
    best, answer = math.inf, None
    for _ in range(repeat):
        start = time.perf_counter()
        answer = work()
        best = min(best, time.perf_counter() - start)
    print(f"{name:<44} {best * 1e3:9.2f} ms {points / best / 1e6:9.2f} M points/s {best / points * 1e6:8.3f} µs/point")
    return answer


def wire(n: int) -> bytes:
    steps, seconds, values = data(n)
    points = n * len(values)
    rows = [(steps[i], seconds[i], {key: values[key][i] for key in METRICS}) for i in range(n)]
    sparse = [(s, t, {k: v for k, v in row.items() if (s + len(k)) % 2}) for s, t, row in rows]
    body: bytes = timed("encode_rows", points, lambda: columns.encode_rows(rows), 3)
    timed("encode_rows, every second value absent", points // 2, lambda: columns.encode_rows(sparse), 3)
    timed("encode_rows, 10 rows", 40, lambda: columns.encode_rows(rows[:10]), 200)
    timed("encode_columns, lists", points, lambda: columns.encode_columns(steps, values, seconds))
    arrays = {key: np.array(column) for key, column in values.items()}
    timed("encode_columns, numpy", points, lambda: columns.encode_columns(np.array(steps), arrays, np.array(seconds)))
    timed("decode", points, lambda: columns.decode(body))
    print(f"{'wire':<44} {len(body) / points:9.2f} bytes/point")
    return body


def stored(n: int, body: bytes) -> None:
    batch = columns.decode(body)
    points = n * len(METRICS)
    chunk = timed("pack", points, lambda: chunks.pack(batch))
    print(f"{'chunk':<44} {len(chunk) / points:9.2f} bytes/point")
    timed("unpack, all", points, lambda: chunks.unpack(chunk))
    timed("unpack, one metric", n, lambda: chunks.unpack(chunk, ["loss"]))
    table = series.Table.from_batch(batch)
    small = [(at, table.slice(at, at + 1000)) for at in range(0, n, 1000)]
    packed = timed("pack, chunks of 1,000 rows", points, lambda: [chunks.pack(part) for _, part in small], 3)
    print(f"{'chunks of 1,000 rows':<44} {sum(map(len, packed)) / points:9.2f} bytes/point")
    read = timed("unpack and join one metric of those", n, lambda: join(packed))
    assert len(read) == n
    ten = table.slice(0, 10)
    timed("pack, 10 rows", 40, lambda: chunks.pack(ten), 200)
    timed("resolve 2 x the parts", points, lambda: series.resolve([*small, *small]))
    timed("summarise", points, lambda: reductions.summarise(table))
    sealed(points, small)


def join(packed: list[bytes]) -> series.Table:
    return series.concat([chunks.unpack(chunk, ["loss"]) for chunk in packed])


def sealed(points: int, parts: list[series.Part]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segment.parquet"
        info = timed("write segment", points, lambda: segments.write(path, lambda: parts), 3)
        print(f"{'segment':<44} {info.bytes / points:9.2f} bytes/point")
        timed("read segment, all", points, lambda: segments.read(path))
        timed("read segment, one metric", info.rows, lambda: segments.read(path, ["loss"]))
        middle = info.rows // 2
        timed(
            "read segment, one metric, 1,000 steps", 1000, lambda: segments.read(path, ["loss"], middle, middle + 999)
        )


def sampled() -> None:
    rnd = np.random.default_rng(0)
    n = 1_000_000
    table = series.Table(
        n,
        {
            "_step": series.Series("i8", None, np.arange(n)),
            "loss": series.Series("f8", None, rnd.normal(size=n)),
        },
    )
    timed("sample 1M points to 1,000 buckets", n, lambda: reductions.sample(table, ["loss"], 1000))


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    stored(count, wire(count))
    sampled()
