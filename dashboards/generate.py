#!/usr/bin/env python3
"""Writes the dashboards as Grafana's JSON: one file for each module of `boards/`. Needs Python and nothing else.

    dashboards/generate.py            writes dashboards/*.json
    dashboards/generate.py --check    fails if a file is not what would be written, or is not wanted any more
"""

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True

from boards import database, functions, logins, overview, pools  # noqa: E402 (no byte code beside the sources)

BOARDS = (overview, pools, functions, logins, database)


def texts():
    """What each file has to hold."""
    boards = [module.board() for module in BOARDS]
    return {
        HERE / f"pgcorral-{board.name}.json": json.dumps(board.json(), indent=2, ensure_ascii=False) + "\n"
        for board in boards
    }


def check(wanted):
    """What is wrong with the files as they are."""
    found = {path: path.read_text(encoding="utf-8") for path in HERE.glob("*.json")}
    wrong = [f"{path.name} is missing" for path in wanted if path not in found]
    wrong += [f"{path.name} is of no board" for path in found if path not in wanted]
    wrong += [f"{path.name} is out of date" for path in wanted if found.get(path, wanted[path]) != wanted[path]]
    return wrong


def main():
    parser = argparse.ArgumentParser(description="Writes the dashboards as Grafana's JSON.")
    parser.add_argument("--check", action="store_true", help="only compare, and fail if a file differs")
    arguments = parser.parse_args()
    wanted = texts()
    if arguments.check:
        wrong = check(wanted)
        for line in wrong:
            print(line, file=sys.stderr)
        if wrong:
            sys.exit("run dashboards/generate.py and commit what it writes")
        return
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
