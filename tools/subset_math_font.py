"""Cut STIX Two Math down to the characters that the site's formulas can use.

    npm pack @fontsource/stix-two-math@5.3.0 && tar xzf fontsource-stix-two-math-5.3.0.tgz
    pip install fonttools brotli
    python tools/subset_math_font.py package/files/stix-two-math-latin-400-normal.woff2

writes docs/assets/fonts/stix-two-math.woff2. The licence (OFL 1.1) lies beside it.
"""

import sys
from pathlib import Path

from fontTools import subset

TARGET = Path(__file__).parent.parent / "docs/assets/fonts/stix-two-math.woff2"
CHARACTERS = (
    "U+0020-007E,U+00A0,U+00AC,U+00B1,U+00B4,U+00B7,U+00D7,U+00F7,"  # ASCII, signs
    "U+0131,U+0237,U+02C6,U+02C7,U+02D8-02DC,U+0300-0308,U+0338,U+20D7,"  # accents
    "U+0391-03A9,U+03B1-03C9,U+03D1,U+03D5,U+03F5,"  # Greek
    "U+2010-2016,U+2018-201D,U+2026,U+2032-2037,U+2061-2064,"  # dashes, primes
    "U+2102,U+210E,U+2112,U+2115,U+211D,U+2124,U+2190-2194,U+21A6,U+21D0-21D4,"
    "U+2200,U+2202-220B,U+220F,U+2211-2213,U+2216-221E,U+2225-222B,U+2234-2237,"
    "U+223C,U+2243,U+2245,U+2248,U+2254,U+2260-2265,U+226A,U+226B,U+2282-2287,"
    "U+2295,U+2297,U+2299,U+22A4,U+22A5,U+22BA,U+22C5,U+22EE-22F1,U+2308-230B,"
    "U+23DE,U+23DF,U+27E8,U+27E9,U+2A7D,U+2A7E,"
    "U+1D400-1D467,U+1D538-1D56B,U+1D6A4,U+1D6A5,U+1D6A8-1D71B,U+1D7CE-1D7E1"
)


def main(source: str) -> None:
    options = subset.Options(flavor="woff2", notdef_outline=True)
    font = subset.load_font(source, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=subset.parse_unicodes(CHARACTERS))
    subsetter.subset(font)
    subset.save_font(font, TARGET, options)
    print(f"{TARGET}: {TARGET.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main(sys.argv[1])
