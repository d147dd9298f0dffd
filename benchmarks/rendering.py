"""CPU seconds per virtual slide, from latents to TIFF, so on one core that is free: python benchmarks/rendering.py."""

import argparse
import tempfile
import time
from pathlib import Path

from hsa.virtual.recipe import Recipe, photograph, section_truth
from hsa.virtual.scan import write_slide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--px", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--cases", type=int, default=5)
    arguments = parser.parse_args()
    stains = ("HE", "Ki-67", "P53", "PD-L1")
    print(f"{'px':>5} {'layout/4':>9} {'cells':>7} {'picture':>8} {'write':>7} {'s/slide':>8} {'MB':>6}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        compile_once = Recipe(256, 1.0, 0)
        for name in stains:
            photograph(compile_once, 0, name, section_truth(compile_once, 0, name))
        for px in arguments.px:
            recipe, spent, size = Recipe(px, 1.0, 0), [0.0] * 4, 0
            for index in range(arguments.cases):
                marks = [time.process_time()]
                layout = recipe.layout(index)
                spent[0] += time.process_time() - marks[0]
                for name in stains:
                    marks = [time.process_time()]
                    truth = section_truth(recipe, index, name, layout)
                    marks.append(time.process_time())
                    image = photograph(recipe, index, name, truth)
                    marks.append(time.process_time())
                    write_slide(path, image)
                    marks.append(time.process_time())
                    for step in range(3):
                        spent[step + 1] += marks[step + 1] - marks[step]
                    size += path.stat().st_size
            count = arguments.cases * len(stains)
            each = [seconds / count for seconds in spent]
            print(
                f"{px:>5} {each[0]:>9.3f} {each[1]:>7.3f} {each[2]:>8.3f} {each[3]:>7.3f} "
                f"{sum(each):>8.3f} {size / count / 1e6:>6.2f}"
            )


if __name__ == "__main__":
    main()
