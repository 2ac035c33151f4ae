"""A cell that shows its plots leaves them as files, since nobody looks at a window there.

Models end a plot with `plt.show()` as in a notebook. Without a screen that does nothing but warn;
here the figures are saved as `figure-1.png` and so on, and closed.
"""

import os
import sys

SHOWS = ".show("
SILENT = "FigureCanvasAgg is non-interactive"  # what matplotlib says where no screen is


def expect(code: str) -> None:
    """Quieten matplotlib's remark in a cell that will show a plot."""
    if SHOWS in code:
        import warnings

        warnings.filterwarnings("ignore", message=SILENT)


def keep_shown(code: str) -> None:
    """Save every open figure, if the cell has shown any."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if SHOWS not in code or pyplot is None:
        return
    for number in pyplot.get_fignums():
        pyplot.figure(number).savefig(_free_name())
    pyplot.close("all")


def _free_name() -> str:
    number = 1
    while os.path.lexists(f"figure-{number}.png"):
        number += 1
    return f"figure-{number}.png"
