"""The paper's claims, judged from results/: rules.csv (each rule's error rates and date), scorecard.csv, README.md."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from bnrepro import files
from bnrepro.analysis import claims, report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if README and csv are not in step"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of the results (%(default)s)"
    )
    parser.add_argument(
        "--readme", type=Path, help="file with the block (README.md; outside a checkout none)"
    )
    args = parser.parse_args()
    table = args.results / "scorecard.csv"
    readme = args.readme or Path("README.md")
    without = args.readme is None and not args.check and not readme.exists()
    try:
        if not args.results.is_dir():
            raise FileNotFoundError(f"{args.results} is no folder of results")
        before = "" if without else readme.read_text(encoding="utf-8")
        if not args.check:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            rules = claims.rules_table(args.results, now)
            files.write(args.results / claims.RULES_FILE, rules.to_csv(index=False, float_format="%.4g"))
            files.write(table, report.scorecard_csv(claims.scorecard(args.results)))
        if without:
            print(f"{table}: written")
            return 0
        after = report.with_scorecard(before, report.read_scorecard(table.read_text(encoding="utf-8")))
        if before != after and not args.check:
            files.write(readme, after)
    except (OSError, ValueError) as error:
        print(f"scorecard: {error}", file=sys.stderr)
        return 1
    if args.check and before != after:
        print(f"scorecard: {readme} and {table} are not in step; run scripts/scorecard.py", file=sys.stderr)
        return 1
    print(f"{table} and {readme}: {'in step' if before == after else 'updated'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
