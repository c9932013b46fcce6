"""Measure again what the pages "Faster" and "How cost grows" show: about six minutes.

python -m benchmarks
"""

import subprocess
import sys

from benchmarks import command
from benchmarks.ladder import PUBLISHED_OUTPUTS

if __name__ == "__main__":
    command.parser(__doc__).parse_args()
    ladders = [["benchmarks.ladder", "--device=cpu", f"--outputs={M}"] for M in PUBLISHED_OUTPUTS]
    for arguments in [*ladders, ["benchmarks.growth"]]:
        subprocess.run([sys.executable, "-m", *arguments], check=True)
