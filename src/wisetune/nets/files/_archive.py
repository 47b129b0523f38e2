"""Is this file what ``torch.save`` writes? Decided from its directory and its opcodes, before torch reads a byte of it.

The parser that checks and the parser that reads are two programs, and a hostile zip file can look different to each. So only the one shape
is let through that ``torch.save`` gives its files: members stored as they are, a directory that ends the file, no comment.
"""

from __future__ import annotations

import itertools
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import IO, BinaryIO, cast

from wisetune.errors import BadFile

LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What torch wrote first before version 1.6: its magic number as a pickle."""
_LEGACY_PICKLES = 5  # magic number, protocol, machine, contents, names of the storages; then the storages themselves
_MOST_OPCODES = 500_000
"""A pickle can ask for 200 bytes of memory with each byte. Released checkpoints have some ten thousand opcodes."""
_LONGEST = 1 << 20
_MOST_DIRECTORY = 4 << 20
_RESAVE = "save the weights alone: torch.save(model.state_dict(), FILE)"


def check_zip(path: Path, file: BinaryIO) -> None:
    """Refuse a zip file that ``torch.save`` would not have written.

    Raises:
        BadFile: it is cut off, packed, a TorchScript program, or larger inside than outside.
    """
    _check_end(path, file)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            pickles = [member for member in members if member.filename.count("/") == 1 and member.filename.endswith("/data.pkl")]
            if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
                raise BadFile(path, "it is a TorchScript program, not a table of weights", _RESAVE)
            if len(pickles) != 1:
                raise BadFile(path, "it is a zip file, but not one that torch.save wrote", "unpack it, and give the weights file inside")
            if len(set(names)) < len(names):
                raise BadFile(path, "it holds two members of one name", "get it again from its source")
            if any(member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size for member in members):
                raise BadFile(path, "its members are compressed, which torch.save never does", "unpack it and save it with torch.save")
            inside = sum(member.file_size for member in members)
            if inside > path.stat().st_size:
                raise BadFile(path, f"it declares {inside} bytes inside a file of {path.stat().st_size}", "get it again from its source")
            with archive.open(pickles[0]) as opcodes:
                _count(path, opcodes, 1)
    # With NotImplementedError zipfile answers a way of compression that it does not know.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, UnicodeDecodeError, struct.error) as error:
        raise BadFile(path, f"its zip directory cannot be read: {error}", "it is damaged: get it again") from None


def check_legacy(path: Path, file: BinaryIO) -> None:
    """Refuse a file of torch before 1.6 whose opcodes are not worth running.

    Raises:
        BadFile: it is cut off, or asks for far more objects than a checkpoint has.
    """
    file.seek(0)
    _count(path, file, _LEGACY_PICKLES)


def _check_end(path: Path, file: BinaryIO) -> None:
    """The directory must end the file: ``directory [zip64 record (56), zip64 pointer (20)] end record (22)``."""
    size = path.stat().st_size
    file.seek(max(0, size - 98))
    tail = file.read(98)
    end = tail[-22:]
    if len(end) < 22 or end[:4] != b"PK\x05\x06" or end[20:] != b"\x00\x00":
        raise BadFile(path, "it starts like a PyTorch file but does not end like one: it was cut off", "get the whole file again")
    disks, count, length, offset = end[4:8], *struct.unpack("<HLL", end[10:20])
    after = size - 22
    if tail[-42:-38] == b"PK\x06\x07":
        after -= 76
        record = tail[:56]
        wide = struct.unpack("<QQQ", record[32:56]) if record[:4] == b"PK\x06\x06" else (0, 0, 0)
        # The short record either repeats the wide one or says, all bits set, that the wide one holds.
        agree = count in (wide[0], 0xFFFF) and length in (wide[1], 0xFFFFFFFF) and offset in (wide[2], 0xFFFFFFFF)
        if struct.unpack("<Q", tail[64:72]) != (after,) or not agree:
            raise BadFile(path, "its zip directory contradicts itself", "get it again from its source")
        count, length, offset = wide
    if disks != b"\x00" * 4 or offset + length != after or length > _MOST_DIRECTORY:
        raise BadFile(path, "its zip directory is not where torch.save puts it, or far too long", "get it again from its source")


class _Bounded:
    """A stream of opcodes that does not hand out, nor take memory for, a string longer than any name is."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def read(self, size: int) -> bytes:
        if size > _LONGEST:
            raise ValueError(f"a string of {size} bytes")
        return self.stream.read(size)

    def readline(self) -> bytes:
        return self.stream.readline(_LONGEST)


def _count(path: Path, stream: IO[bytes], pickles: int) -> None:
    left = _MOST_OPCODES
    bounded = cast(IO[bytes], _Bounded(stream))  # genops reads and reads lines, no more
    try:
        for _ in range(pickles):
            left -= sum(1 for _ in itertools.islice(pickletools.genops(bounded), left))
            if left <= 0:
                raise BadFile(path, f"it holds more than {_MOST_OPCODES} objects beside the weights", _RESAVE)
    except (ValueError, UnicodeDecodeError, OverflowError) as error:
        reason = str(error).splitlines()[0][:80]
        reason = "it is no pickle" if "opcode" in reason else reason  # where it is none, where in it does not matter
        raise BadFile(path, f"its list of contents is damaged ({reason})", "get the whole file again") from None
