"""Readers of plain files. Nothing that is read is ever executed: no pickle.

A file that is missing, unreadable or damaged raises DataError, which names the file and what is wrong with it.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..core.errors import DataError

PathLike = str | os.PathLike[str]

# The third byte of an IDX file says what its values are; they are stored with the most significant byte first.
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
NPY_MAGIC = b"\x93NUMPY"


def _read(name: str, path: PathLike) -> bytes:
    """The bytes of a file."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{name}: there is no file {os.fspath(path)!r}; check the path") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(
            f"{name}: {os.fspath(path)!r} cannot be read ({reason}); check the path and its permissions"
        ) from None


def _damaged(name: str, path: PathLike, what: str) -> DataError:
    return DataError(f"{name}: {os.fspath(path)!r} {what}")


def read_idx(path: PathLike) -> np.ndarray:
    """The array in an IDX file, the format of MNIST, plain or gzipped, in the machine's byte order."""
    data = _read("read_idx", path)
    if data[:2] == GZIP_MAGIC:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            raise _damaged("read_idx", path, "is a damaged gzip file; fetch it again") from None
    kind = IDX_TYPES.get(data[2]) if len(data) >= 4 and data[:2] == b"\0\0" else None
    if kind is None:
        raise _damaged(
            "read_idx", path, f"is not an IDX file (it starts with {data[:4]!r}); give one, plain or gzipped"
        )
    rank = data[3]
    start = 4 + 4 * rank
    if len(data) < start:
        raise _damaged("read_idx", path, f"ends inside its header of {start} bytes; fetch it again")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", rank, 4))
    dtype = np.dtype(kind)
    expected = math.prod(shape) * dtype.itemsize
    if len(data) - start != expected:
        raise _damaged(
            "read_idx",
            path,
            f"holds {len(data) - start} bytes of values, and shape {list(shape)} needs {expected}; fetch it again",
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_npz(path: PathLike) -> dict[str, np.ndarray]:
    """The arrays of an .npz archive by name. Arrays of Python objects, which NumPy would unpickle, are refused."""
    data = _read("read_npz", path)
    if data.startswith(NPY_MAGIC):
        raise _damaged("read_npz", path, "holds a single array, not an .npz archive; read it with numpy.load")
    try:
        if not zipfile.is_zipfile(io.BytesIO(data)):
            raise zipfile.BadZipFile
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "allow_pickle" in str(error):
            what = "holds Python objects, which are not loaded; save plain arrays of numbers"
            raise _damaged("read_npz", path, what) from None
        raise _damaged("read_npz", path, "holds an array that is damaged; write it again with numpy.savez") from None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        raise _damaged("read_npz", path, "is not an .npz archive, or damaged; write one with numpy.savez") from None


def read_csv(path: PathLike, delimiter: str = ",", header: bool | None = None) -> dict[str, np.ndarray]:
    """The columns of a table in a text file (UTF-8) by name, each an array of int64, float64 or strings.

    header: whether the first line holds the names; by default it does when one of its cells is not a number. Columns
    without names are called "0", "1", and so on. An empty cell in a column of numbers is NaN.
    """
    if len(delimiter) != 1:
        raise DataError(f"read_csv: delimiter={delimiter!r} must be one character, such as ',' or ';'")
    try:
        text = _read("read_csv", path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _damaged("read_csv", path, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not row:
                continue
            if rows and len(row) != len(rows[0]):
                raise _damaged(
                    "read_csv",
                    path,
                    f"has {len(row)} cells in line {reader.line_num} and {len(rows[0])} in its first; mend that line",
                )
            rows.append([cell.strip() for cell in row])
    except csv.Error as error:
        raise _damaged("read_csv", path, f"cannot be split into cells in line {reader.line_num} ({error})") from None
    if not rows:
        raise _damaged("read_csv", path, "is empty; give a table with at least one row")
    if header is None:
        header = any(cell and not _is_number(cell) for cell in rows[0])
    names = rows.pop(0) if header else [str(i) for i in range(len(rows[0]))]
    if not rows:
        raise _damaged("read_csv", path, "has names of columns but no rows; give at least one")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _damaged("read_csv", path, f"has two columns called {twice!r}; rename one")
    return {name: _column([row[i] for row in rows]) for i, name in enumerate(names)}


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _column(cells: list[str]) -> np.ndarray:
    """Cells as integers if all are, else as floats if all are numbers or empty (but not all empty), else as strings."""
    try:
        return np.array([int(cell) for cell in cells], np.int64)
    except (ValueError, OverflowError):
        pass
    if any(cells) and all(not cell or _is_number(cell) for cell in cells):
        return np.array([float(cell) if cell else math.nan for cell in cells], np.float64)
    return np.array(cells)
