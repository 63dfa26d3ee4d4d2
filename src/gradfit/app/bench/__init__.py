"""``gradfit bench``: time gradfit beside SciPy's ODR and odrpack on this machine."""

from pathlib import Path

from gradfit.app.bench.cases import cases
from gradfit.app.bench.measure import Row, measure
from gradfit.app.bench.tables import to_json, to_markdown, to_text
from gradfit.app.files import check_directory, write_files
from gradfit.app.output import progress, remark, save_text, show

NAMES = {True: "quick", False: "full"}


def run(*, quick: bool, as_json: bool, out: Path | None = None) -> int:
    """Measure every case with every solver that is installed; print a table, or JSON.

    With ``out`` both are written there, too, as ``quick`` or ``full``, ``.md`` and ``.json``.
    """
    check_directory(out)
    rows: list[Row] = []
    with progress("timing", quiet=False) as say:
        for case in cases(quick=quick):
            if say is not None:
                say(case.title)
            rows.append(measure(case))
    if out is not None:
        name = NAMES[quick]
        files = {f"{name}.json": to_json(rows), f"{name}.md": to_markdown(rows)}
        written = write_files(
            out, {n: lambda path, text=text: save_text(path, text) for n, text in files.items()}
        )
        remark(f"wrote {', '.join(map(str, written))}")
    show(to_json(rows) if as_json else to_text(rows))
    return 0
