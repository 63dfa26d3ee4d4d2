"""Tables: what is read, and what is refused with its column, row and text."""

import io
import sys

import polars as pl
import pytest

from gradfit.app.table import Columns, read, select
from gradfit.errors import InputError


@pytest.fixture
def write(tmp_path):
    def to_file(content: str | bytes, name: str = "points.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return to_file


def chosen(source: str, **columns) -> dict[str, object]:
    """Select columns and return plain lists."""
    given = select(read(source), Columns(**columns))
    return {**given, "data": given["data"].to_dict(as_series=False)}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_separator_is_found_in_the_first_line(write, separator, newline):
    rows = [["t", "n"], ["0.5", "-1e3"], ["1.5", "2"]]
    source = write(newline.join(separator.join(row) for row in rows))
    assert chosen(source, x=["t"], y=["n"])["data"] == {"t": [0.5, 1.5], "n": [-1000.0, 2.0]}


def test_numbers_are_read_to_the_last_bit(write, rng):
    values = rng.normal(size=200) * 10.0 ** rng.integers(-300, 300, 200)
    source = write("x\n" + "\n".join(map(repr, values.tolist())))
    assert chosen(source, x=["x"])["data"]["x"] == values.tolist()


def test_comments_blanks_quotes_and_empty_last_lines_are_no_data(write):
    source = write('\ufeff# taken in May\n x ,"y"\n1, 2\n# pause\n"3",4\n\n\n')
    assert chosen(source, x=["x"], y=["y"])["data"] == {"x": [1.0, 3.0], "y": [2.0, 4.0]}


@pytest.mark.parametrize(
    "content",
    [
        "x y s\n0.5 2.5 0.1\n1.5 3 0.2\n",
        "  x   y  s \n 0.5  2.5  0.1\n  1.5 3   0.2",
        "# x y s\n5.000e-01 2.500e+00 1.000e-01\n1.5 3.0 0.2\n",
        "# made in May\n#x,y,s\n0.5,2.5,0.1\n1.5,3,0.2\n",
        "# x;y;s\n0,5;2,5;0,1\n1,5;3;0,2\n",
        "x,y,s\n\n0.5,2.5,0.1\n\n\n1.5,3,0.2\n\n",
        "sep=;\nx;y;s\n0,5;2,5;0,1\n1,5;3;0,2\n",
        "sep=|\r\nx|y|s\r\n0.5|2.5|0.1\r\n1.5|3|0.2\r\n",
        "x,y,s\r0.5,2.5,0.1\r1.5,3,0.2\r",
        "\ufeffx,y,s\r\n# units: s,V,V\r\n0.5,2.5,0.1\r\n1.5,3,0.2",
    ],
)
def test_tables_are_read_as_instruments_and_numpy_write_them(write, content):
    data = chosen(write(content), x=["x"], y=["y"], sy="s")["data"]
    assert data == {"x": [0.5, 1.5], "y": [2.5, 3.0], "s": [0.1, 0.2]}


def test_a_comment_names_columns_only_where_the_first_line_is_of_numbers(write):
    data = chosen(write("# p,q\nx,y\n1,2\n"), x=["x"], y=["y"])["data"]
    assert data == {"x": [1.0], "y": [2.0]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_names_are_read_as_spreadsheets_write_them(write, encoding):
    source = write("µm,Größe\n1,2\n".encode(encoding))
    assert chosen(source, x=["µm"], y=["Größe"])["data"] == {"µm": [1.0], "Größe": [2.0]}


def test_commas_are_decimal_points_where_semicolons_part_the_columns(write):
    source = write("x;y;s\n1,5;-2,25e-3;0.1\n2;;0.2\n,5;+1,;0.3\n")
    data = chosen(source, x=["x"], y=["y"], sy="s", omit=True)["data"]
    assert data["x"] == [1.5, 2.0, 0.5]
    assert data["y"][::2] == [-2.25e-3, 1.0]
    assert data["s"] == [0.1, 0.2, 0.3]


def test_parquet_is_told_by_its_first_bytes(tmp_path):
    path = tmp_path / "table"
    pl.DataFrame({"x": [1, 2], "y": pl.Series([0.1, 0.2], dtype=pl.Float32)}).write_parquet(path)
    data = chosen(str(path), x=["x"], y=["y"])["data"]
    assert data["x"] == [1.0, 2.0]
    assert data["y"] == pytest.approx([0.1, 0.2], rel=1e-7)


def test_dash_reads_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\ty\n1\t2\n")))
    assert chosen("-", x=["x"], y=["y"])["data"] == {"x": [1.0], "y": [2.0]}


def test_errors_are_columns_or_numbers(write):
    source = write("a,b,y,s\n1,2,3,4\n")
    given = chosen(source, x=["a,b"], y=["y"], sx="0.5,s", sy="s")
    assert (given["x"], given["y"]) == (["a", "b"], "y")
    assert (given["sx"], given["sy"]) == ([0.5, "s"], "s")
    assert chosen(source, x=["a", "b"], y=["y"], sx="0.5")["sx"] == 0.5


def test_a_column_whose_name_holds_a_comma_or_is_a_number_is_that_column(write):
    source = write('"a,b",0.1\n1,2\n')
    given = chosen(source, x=["a,b"], y=["0.1"], sy="0.1")
    assert (given["x"], given["y"], given["sy"]) == ("a,b", "0.1", "0.1")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(["2", "10"], [2, 10]), (["1", "01"], ["1", "01"]), (["a", "2"], ["a", "2"])],
)
def test_labels_are_whole_numbers_only_where_nothing_is_lost(write, labels, expected):
    source = write("x,g\n" + "\n".join(f"1,{label}" for label in labels))
    given = select(read(source), Columns(x=["x"], group="g"))
    assert given["data"][given["groups"]].to_list() == expected


@pytest.mark.parametrize("cell", ["", "NA", "NaN", " nan ", "null"])
def test_missing_value_is_refused_or_left_to_the_fit(write, cell):
    source = write(f"x,y\n1,2\n3,{cell}\n")
    with pytest.raises(InputError, match=r"column 'y' of points.csv, data row 2: .* missing"):
        chosen(source, x=["x"], y=["y"])
    given = chosen(source, x=["x"], y=["y"], omit=True)
    assert given["nan_policy"] == "omit"
    assert given["data"]["y"][0] == 2.0
    assert given["data"]["y"][1] != given["data"]["y"][1]


def test_missing_value_spoils_its_group_only(write):
    given = chosen(write("x,y,g\n1,2,a\n3,,b\n"), x=["x"], y=["y"], group="g")
    assert given["data"]["y"][1] != given["data"]["y"][1]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("x,y\n1,2\n3,abc\n", {}, "column 'y' of points.csv, data row 2: 'abc' is not a number$"),
        ("x\ty\n1,5\t2\n", {}, "data row 1: '1,5' is not a number; write decimal points"),
        ('x,y\n1,"1,200"\n', {}, "'1,200' is not a number; .* no commas between thousands"),
        ("x;y\n1,5;2\n2.5;3\n", {}, "data row 1: '1,5' is not a number; write decimal points"),
        ("x;y\n1,2,3;2\n", {}, "data row 1: '1,2,3' is not a number; "),
        ("x,y\ns,V\n1,2\n", {}, "row 1: 's' is not a number; put # before lines that hold no data"),
        ("x y\n1 2 3\n", {}, "a row has more cells than the first line has names"),
        ("x,y\n", {}, "points.csv has a line of column names, but no row of numbers below it"),
        ('x,y,g\n1,2,""\n', {"group": "g"}, "column 'g' .* the name of the group is missing"),
        ("x,y\n1,inf\n", {}, "column 'y' of points.csv, data row 1: the value is infinite"),
        ("x,y\n1,2\n,\n3,4\n", {}, "column 'x' of points.csv, data row 2: the value is missing"),
        ("time,y\n1,2\n", {"x": ["tme"]}, "--x: .* no column 'tme'; did you mean 'time'"),
        ("X,y\n1,2\n", {}, "no column 'x'; did you mean 'X'"),
        ("t,y\n1,2\n", {"sy": "error"}, "--x: points.csv has no column 'x'; its columns are t, y"),
        ("x,y\n1,2\n", {"sy": "error"}, "--sy: points.csv has no column 'error'"),
        ("1,2\n3,4\n", {}, "its columns are 1, 2 .the first line must name the columns"),
        ("x,x,y\n1,2,3\n", {}, "--x: points.csv has more than one column 'x'"),
        ("x,y\n1,2\n", {"sx": "0.1,0.2"}, "--sx: expected 1 entry, got 2"),
        ("x,y,g\n1,2,\n", {"group": "g"}, "column 'g' .* row 1: the name of the group is missing"),
        ("", {}, "points.csv is empty; a line of column names and rows are needed"),
        ("x,y\n1,2,3\n", {}, "a row has more cells than the first line has names"),
        (b"x\0,\0y\0", {}, "neither text nor Parquet"),
        (b"x,y\n1,\xff\n", {}, "data row 1: 'ÿ' is not a number"),
        (b"PAR1 and no more", {}, "cannot read points.csv as a table: parquet"),
    ],
)
def test_bad_table_is_one_line_that_says_where(write, content, columns, message):
    with pytest.raises(InputError, match=message) as error:
        chosen(write(content), **{"x": ["x"], "y": ["y"], **columns})
    assert "\n" not in str(error.value)


def test_dates_are_not_numbers(tmp_path):
    path = tmp_path / "days.parquet"
    pl.DataFrame({"x": pl.Series([0], dtype=pl.Date)}).write_parquet(path)
    with pytest.raises(InputError, match="column 'x' of days.parquet holds Date, not numbers"):
        chosen(str(path), x=["x"])


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file .*nowhere.csv"):
        read(str(tmp_path / "nowhere.csv"))
    with pytest.raises(InputError, match="cannot read .*: Is a directory"):
        read(str(tmp_path))
