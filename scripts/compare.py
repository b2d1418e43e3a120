"""The same experiment trained twice, by two engines or on two machines, compared: a table as .csv and .md."""

import argparse
import sys
from pathlib import Path

from bnrepro import files
from bnrepro.analysis import frame as tidy
from bnrepro.analysis import report
from bnrepro.analysis.effects.engines import comparison


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("one", type=Path, help="results/NAME.parquet")
    parser.add_argument("other", type=Path, help="the same experiment from elsewhere")
    parser.add_argument("--out", type=Path, required=True, help="results/tables/NAME, without ending")
    args = parser.parse_args()
    try:
        table = comparison(tidy.load(args.one), tidy.load(args.other))
        files.write(
            args.out.with_name(f"{args.out.name}.csv"), table.to_csv(index=False, float_format="%.6g")
        )
        files.write(args.out.with_name(f"{args.out.name}.md"), report.effects_markdown(table))
    except (OSError, ValueError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    print(table.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
