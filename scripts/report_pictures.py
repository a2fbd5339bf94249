"""The pictures of docs/reading_reports.md, from a run's report.

    python scripts/report_pictures.py runs/first/<job>

A run's own pictures are for screens of twice the density; those of the page are smaller and have few colours.
"""

import argparse
from pathlib import Path

from PIL import Image

PICTURES = Path(__file__).parents[1] / "docs" / "pictures" / "report"
NAMES = ("prediction", "strip_lcd", "vector_proprio", "spread", "losses")
WIDTH, COLOURS = 1000, 160


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run directory with a report")
    run: Path = parser.parse_args().run
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        picture = Image.open(run / "report" / f"{name}.png").convert("RGB")
        if picture.width > WIDTH:
            picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.LANCZOS)
        small = picture.quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(PICTURES / f"{name}.png", optimize=True)
        print(f"{PICTURES / name}.png: {(PICTURES / f'{name}.png').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
