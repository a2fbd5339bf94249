"""Measures wmplay, piece by piece, against its peers and against what the hardware allows.

    python scripts/benchmark.py                  all benchmarks but the demo
    python scripts/benchmark.py lcd cem          those
    python scripts/benchmark.py all --write      all, and docs/benchmarks.md anew
    python scripts/benchmark.py work --write     that one, and its section of the page

`make bench` runs it in an environment of its own in which the peers are installed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path

import torch
from benchmarks import (
    cem,
    collection,
    commands,
    document,
    dreamer,
    fbt_cache,
    lcd,
    learned_env,
    rssm,
    store,
    tree_search,
    values,
    work,
)

from wmplay.errors import suggestion

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BENCHMARKS = {
    "lcd": lcd.benchmark,
    "store-read": store.benchmark_read,
    "store-write": store.benchmark_write,
    "rssm": rssm.benchmark,
    "learned-env": learned_env.benchmark,
    "fbt-cache": fbt_cache.benchmark,
    "cem": cem.benchmark,
    "planners": values.benchmark_planners,
    "dreamer": dreamer.benchmark,
    "tdmpc2": values.benchmark_tdmpc2,
    "tree-search": tree_search.benchmark,
    "ray-collection": collection.benchmark,
    "cli": commands.benchmark_cli,
    "work": work.benchmark,
    "demo": commands.benchmark_demo,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or {', '.join(BENCHMARKS)}")
    parser.add_argument("--write", action="store_true", help="write what is found to docs/benchmarks.md")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1, the least disturbed)")
    options = parser.parse_args()
    names = options.names or [name for name in BENCHMARKS if name != "demo"]
    names = list(BENCHMARKS) if "all" in names else names
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"unknown benchmark '{name}': {suggestion(name, [*BENCHMARKS, 'all'])}")

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    command = shlex.join(["python", "scripts/benchmark.py", *sys.argv[1:]])
    setting = document.describe_setting(command, options.threads)
    print(setting, flush=True)
    results = []
    for name in names:
        results.append(BENCHMARKS[name]())
        print(f"\n{document.section(results[-1])}\n\n{document.bars(results[-1].checks)}", flush=True)
    if options.write:
        whole = {*names} == {*BENCHMARKS}
        page = document.document if whole else partial(document.updated, PAGE.read_text())
        PAGE.write_text(page(results, setting))


if __name__ == "__main__":
    main()
