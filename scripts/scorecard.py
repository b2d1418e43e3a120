"""The paper's claims, judged from results/: results/scorecard.csv, and the same as a table in README.md."""

import argparse
import sys
from pathlib import Path

from bnrepro import claims, report, results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if README and csv are not in step"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of the results (%(default)s)"
    )
    parser.add_argument(
        "--readme", type=Path, default=Path("README.md"), help="file with the block (%(default)s)"
    )
    args = parser.parse_args()
    table = args.results / "scorecard.csv"
    try:
        if not args.check:
            results.write_text(table, report.scorecard_csv(claims.scorecard(args.results)))
        before = args.readme.read_text()
        after = report.with_scorecard(before, report.read_scorecard(table.read_text()))
    except (FileNotFoundError, ValueError) as error:
        print(f"scorecard: {error}", file=sys.stderr)
        return 1
    if args.check and before != after:
        print(
            f"scorecard: {args.readme} and {table} are not in step; run scripts/scorecard.py", file=sys.stderr
        )
        return 1
    if before != after:
        results.write_text(args.readme, after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
