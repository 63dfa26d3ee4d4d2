"""``gradfit line``: a straight line with errors in x and y."""

from gradfit.app import files, output, table
from gradfit.errors import InputError
from gradfit.lines import line


def run(source: str, columns: table.Columns, relative: bool, delivery: output.Delivery) -> int:
    """Fit, deliver, and return the exit code."""
    files.check_directory(delivery.out, output.SET)
    with output.remarks(delivery.quiet), output.progress("fitting", delivery.quiet):
        chosen = table.select(table.read(source), columns)
        if not isinstance(chosen["x"], str):
            raise InputError('--x: a line has one x; for several use gradfit fit --model "..."')
        result = line(**chosen, absolute_sigma=False if relative else None)
    return output.deliver(result, delivery)
