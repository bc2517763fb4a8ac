"""Readers of files: what they read, and what they say about files that cannot be read."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

import gpu_backprop as gb


def idx(values: np.ndarray, code: int) -> bytes:
    header = bytes([0, 0, code, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


IDX_CASES = [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")]


@pytest.mark.parametrize(("code", "dtype"), IDX_CASES)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_of_every_type(tmp_path, code, dtype, packed):
    values = (np.arange(24).reshape(2, 3, 4) * 5).astype(dtype)
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(idx(values, code), mtime=0) if packed else idx(values, code))
    read = gb.data.read_idx(path)
    assert read.dtype == values.dtype
    assert read.dtype.isnative
    assert read.flags.writeable
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"PNG nonsense", "not an IDX file"),
        (b"\0\0\x07\x01\0\0\0\1a", "not an IDX file"),
        (b"\0\0\x08\x03\0\0\0\1", "ends inside its header"),
        (idx(np.arange(10, dtype="u1"), 0x08)[:-1], r"9 bytes of values, and shape \[10\] needs 10"),
        (idx(np.arange(10, dtype="u1"), 0x08) + b"x", "11 bytes of values"),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff", "0 bytes of values"),
        (gzip.compress(idx(np.arange(100, dtype="u1"), 0x08), mtime=0)[:-9], "damaged gzip"),
        (b"\x1f\x8b\x08garbage", "damaged gzip"),
    ],
)
def test_idx_damaged(tmp_path, content, message):
    path = tmp_path / "bad.idx"
    path.write_bytes(content)
    with pytest.raises(gb.DataError, match=message) as caught:
        gb.data.read_idx(path)
    assert "bad.idx" in str(caught.value)


def test_npz_round_trip(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, X=np.arange(6.0).reshape(2, 3), y=np.array([1, 2]))
    arrays = gb.data.read_npz(path)
    assert sorted(arrays) == ["X", "y"]
    np.testing.assert_array_equal(arrays["X"], np.arange(6.0).reshape(2, 3))


def test_npz_never_unpickles(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = tmp_path / "bomb.npz"
    np.savez(path, X=np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(gb.DataError, match="Python objects"):
        gb.data.read_npz(path)
    assert not (tmp_path / "executed").exists()


def test_npz_damaged(tmp_path):
    good = tmp_path / "good.npz"
    np.savez_compressed(good, X=np.random.Philox(0).random_raw(1000))
    content = bytearray(good.read_bytes())
    bad = tmp_path / "bad.npz"
    for damaged in (b"", b"text", bytes(content[:-200]), bytes(content[:200])):
        bad.write_bytes(damaged)
        with pytest.raises(gb.DataError, match=r"bad\.npz.*not an \.npz archive, or damaged"):
            gb.data.read_npz(bad)
    content[300] ^= 0xFF
    bad.write_bytes(content)
    with pytest.raises(gb.DataError, match="damaged"):
        gb.data.read_npz(bad)
    single = tmp_path / "single.npy"
    np.save(single, np.arange(3))
    with pytest.raises(gb.DataError, match="single array"):
        gb.data.read_npz(single)


def test_csv_columns_and_their_types(tmp_path):
    path = tmp_path / "houses.csv"
    path.write_text('\ufeffrooms,area,district\n3, 71.5,"Old, Town"\n\n4,,Harbour\n', encoding="utf-8")
    table = gb.data.read_csv(path)
    assert list(table) == ["rooms", "area", "district"]
    assert table["rooms"].dtype == np.int64
    assert table["rooms"].tolist() == [3, 4]
    np.testing.assert_array_equal(table["area"], [71.5, np.nan])
    assert table["district"].tolist() == ["Old, Town", "Harbour"]


def test_csv_header_and_delimiter(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("1;2\n3;4.5\n")
    table = gb.data.read_csv(path, delimiter=";")
    assert table["0"].tolist() == [1, 3]
    assert table["1"].tolist() == [2.0, 4.5]
    assert list(gb.data.read_csv(path, delimiter=";", header=True)) == ["1", "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n", "no rows"),
        (b"a,b\n1,2\n3\n", "1 cells in line 3 and 2 in its first"),
        (b"a,a\n1,2\n", "two columns called 'a'"),
        (b"\xff\xfe1,2\n", "not UTF-8"),
        (b'a,b\n"1,2\n', "line 2"),
    ],
)
def test_csv_damaged(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(gb.DataError, match=message):
        gb.data.read_csv(path)


def test_csv_delimiter_is_one_character(tmp_path):
    with pytest.raises(gb.DataError, match="delimiter='::'"):
        gb.data.read_csv(tmp_path / "x.csv", delimiter="::")


@pytest.mark.parametrize("read", [gb.data.read_idx, gb.data.read_npz, gb.data.read_csv])
def test_missing_or_unreadable(tmp_path, read):
    with pytest.raises(gb.DataError, match=r"there is no file .*nowhere"):
        read(tmp_path / "nowhere")
    with pytest.raises(gb.DataError, match="cannot be read"):
        read(tmp_path)
