"""Regression check: the training steps of two commits, in turns.

    python benchmarks/compare.py OLD [NEW] [--loop LOOP] [--device cpu] [--turns 30] [--limit 1.1] [--json FILE]

OLD and NEW are revisions of this repository; NEW is the working tree if it is left out. LOOP is one of `mnist-m` and
`toy`, both if it is left out. Times are CPU times, wall times on a GPU. Ends with exit status 1 if a
loop of NEW takes more than `limit` times as long as OLD's, by the lower quartile of the turns' ratios: that many of
them agree. No absolute time is looked at.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from turns import Worker, clock_for, compared, report, take_turns

ROOT = Path(__file__).parent.parent
LOOPS = {"mnist-m": ("ours.py", 5), "toy": ("ours_toy.py", 200)}  # steps a turn


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--loop", choices=LOOPS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--limit", type=float, default=1.1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    for revision in filter(None, (args.old, args.new)):
        known = ["git", "-C", ROOT, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
        if subprocess.run(known, stdout=subprocess.DEVNULL).returncode:
            parser.exit(2, f"{parser.prog}: {revision!r} is no commit of {ROOT}; git log shows which there are\n")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sources = {"old": Path(folder) / "old", "new": Path(folder) / "new" if args.new else ROOT}
        for name, revision in (("old", args.old), ("new", args.new)):
            if revision is not None:
                command = ["git", "-C", ROOT, "worktree", "add", "-q", "--detach", sources[name], revision]
                subprocess.run(command, check=True)
        try:
            for loop in [args.loop] if args.loop else LOOPS:
                script, steps = LOOPS[loop]
                workers = {name: Worker(script, args.device, source=path / "src") for name, path in sources.items()}
                times = take_turns(workers, args.turns, steps, clock_for(args.device))
                rows += [{**row, "loop": f"{loop}, {row['loop']}"} for row in compared(times, "old")]
                for worker in workers.values():
                    worker.close()
        finally:
            for path in set(sources.values()) - {ROOT}:
                subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", path], check=True)
    settings = {"old": args.old, "new": args.new or "working tree", "turns": args.turns, "device": args.device}
    report("compare", rows, args.json, **settings)
    slower = [row["loop"] for row in rows if row["low"] > args.limit]
    if slower:
        sys.exit(f"slower: {', '.join(slower)}")


if __name__ == "__main__":
    main()
