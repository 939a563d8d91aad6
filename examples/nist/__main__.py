"""Fits the 27 problems from both starting points, and prints how many digits of the certified values are reached.

Run it with `python examples/nist`; another folder with the data files may be given as an argument.
"""

import sys
import time
from pathlib import Path

from nist_fit import digits, fit
from nist_problems import FOLDER, read_problems


def main() -> None:
    """Print the table."""
    began = time.perf_counter()
    print(f"{'problem':10} {'start':>5} {'parameters':>10} {'deviations':>10} {'squares':>8} {'evaluations':>11}")
    for problem in read_problems(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        for number, start in enumerate(problem.starts, 1):
            found = fit(problem, start)
            right = (
                digits(found.parameters, problem.parameters),
                digits(found.deviations, problem.deviations),
                digits(found.squares, problem.squares),
            )
            print(
                f"{problem.name:10} {number:5} {right[0]:10.1f} {right[1]:10.1f} {right[2]:8.1f} {found.evaluations:11}"
            )
    print(f"digits that are right, of the eleven certified; {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
