"""Object code put into memory without a linker: relocatable ELF files of x86-64, as LLVM writes them.

All that it needs is a handful of relocations. What it does not know, it leaves to LLVM, whose import alone takes longer
than everything here.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from struct import Struct
from typing import Any

from dgraph.classes import dataclass

AddressOf = Callable[[str], int | None]
"""The address of a function that object code calls, if there is one of this name."""

_HEADER = Struct("<16sHHIQQQIHHHHHH")
_SECTION = Struct("<IIQQQQIIQQ")
_SYMBOL = Struct("<IBBHQQ")
_RELOCATION = Struct("<QQq")
_WORD = Struct("<Q")

_MAGIC = b"\x7fELF\x02\x01\x01"
_RELOCATABLE, _X86_64 = 1, 62
_SYMBOLS, _RELOCATIONS, _ZEROS, _STARTERS = 2, 4, 8, (14, 15, 16)
_WRITABLE, _IN_MEMORY, _PER_THREAD = 1, 2, 1024
_ELSEWHERE, _LAST_SECTION = 0, 0xFF00
_GOT = "_GLOBAL_OFFSET_TABLE_"


class _Unknown(Exception):
    """Something for LLVM's loader."""


@dataclass(frozen=True, eq=False)
class Image:
    """Code in memory, which lasts as long as this object: the addresses of its functions by name."""

    addresses: dict[str, int]
    memory: Any


def image_of(code: bytes, address_of: AddressOf) -> Image | None:
    """Object code in executable memory; None if it has anything that is not known here."""
    if sys.platform != "linux":
        return None
    try:
        return _Linker(code, address_of).image()
    except _Unknown:
        return None


class _Linker:
    """One object file on its way into memory: sections first, then a word for the address of each outside function."""

    def __init__(self, code: bytes, address_of: AddressOf) -> None:
        self.code = code
        self.address_of = address_of
        if len(code) < _HEADER.size or not code.startswith(_MAGIC):
            raise _Unknown
        _, kind, machine, _, _, _, place, _, _, _, _, size, count, _ = _HEADER.unpack_from(code)
        if (kind, machine, size) != (_RELOCATABLE, _X86_64, _SECTION.size):
            raise _Unknown
        self.sections = [_SECTION.unpack_from(code, place + at * size) for at in range(count)]
        self.starts: dict[int, int] = {}
        self.end = 0
        for at, (_, kind, flags, _, _, size, _, _, alignment, _) in enumerate(self.sections):
            if flags & _IN_MEMORY and size:
                if flags & (_WRITABLE | _PER_THREAD) or kind in _STARTERS:
                    raise _Unknown
                self.end = -(-self.end // alignment) * alignment
                self.starts[at] = self.end
                self.end += size
        self.table = self.end = -(-self.end // _WORD.size) * _WORD.size
        self.entries: dict[str, int] = {}
        self.symbols = self._read_symbols()

    def _read_symbols(self) -> list[tuple[str, int, int]]:
        """The name, section and value of each symbol."""
        tables = [section for section in self.sections if section[1] == _SYMBOLS]
        if len(tables) != 1:
            raise _Unknown
        ((_, _, _, _, place, size, names, _, _, _),) = tables
        start = self.sections[names][4]
        found = []
        for name, _, _, section, value, _ in _SYMBOL.iter_unpack(self.code[place : place + size]):
            end = self.code.index(b"\0", start + name)
            found.append((self.code[start + name : end].decode(), section, value))
        return found

    def image(self) -> Image:
        """The code where it runs."""
        patches = [patch for section in self.sections if section[1] == _RELOCATIONS for patch in self._patches(section)]
        flags, writing = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE
        memory = mmap.mmap(-1, max(self.end, 1), flags=flags, prot=writing)
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for at, start in self.starts.items():
            _, kind, _, _, place, size, *_ = self.sections[at]
            if kind != _ZEROS:
                memory[start : start + size] = self.code[place : place + size]
        for name, entry in self.entries.items():
            memory[entry : entry + _WORD.size] = _WORD.pack(self._outside(name))
        for place, number, is_absolute in patches:
            memory[place : place + _WORD.size] = _WORD.pack((number + base * is_absolute) % 2**64)
        protect: Any = ctypes.CDLL(None).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if protect(base, len(memory), mmap.PROT_READ | mmap.PROT_EXEC):
            raise _Unknown
        addresses = {
            name: base + self.starts[section] + value
            for name, section, value in self.symbols
            if name and section in self.starts
        }
        return Image(addresses, memory)

    def _patches(self, section: tuple[int, ...]) -> list[tuple[int, int, bool]]:
        """The words that relocations ask for: where, which number, and whether the address of the code is added."""
        _, _, _, _, place, size, _, target, _, _ = section
        if target not in self.starts:
            return []
        found = []
        for offset, facts, more in _RELOCATION.iter_unpack(self.code[place : place + size]):
            rule = _RULES.get(facts & 0xFFFFFFFF)
            if rule is None:
                raise _Unknown
            at = self.starts[target] + offset
            found.append((at, rule(self, self.symbols[facts >> 32], at) + more, rule is _Linker.absolute))
        return found

    def _outside(self, name: str) -> int:
        address = self.address_of(name)
        if address is None:
            raise _Unknown
        return address

    # ---- relocations: the number for a symbol at a place, all counted from the start of the image --------------------

    def absolute(self, symbol: tuple[str, int, int], _at: int) -> int:
        """Where the symbol is."""
        _, section, value = symbol
        if section not in self.starts:
            raise _Unknown
        return self.starts[section] + value

    def relative(self, symbol: tuple[str, int, int], at: int) -> int:
        """Where it is, from here."""
        return self.absolute(symbol, at) - at

    def from_table(self, symbol: tuple[str, int, int], at: int) -> int:
        """Where it is, from the table of addresses."""
        return self.absolute(symbol, at) - self.table

    def table_from_here(self, symbol: tuple[str, int, int], at: int) -> int:
        """Where the table is, from here."""
        if symbol[0] != _GOT:
            raise _Unknown
        return self.table - at

    def entry(self, symbol: tuple[str, int, int], _at: int) -> int:
        """Where in the table the address of an outside function is."""
        name, section, _ = symbol
        if section != _ELSEWHERE:
            raise _Unknown
        if name not in self.entries:
            self.entries[name] = self.end
            self.end += _WORD.size
        return self.entries[name] - self.table


_RULES: dict[int, Callable[[_Linker, tuple[str, int, int], int], int]] = {
    1: _Linker.absolute,
    24: _Linker.relative,
    25: _Linker.from_table,
    27: _Linker.entry,
    29: _Linker.table_from_here,
}
"""What relocations ask for, by their numbers: 64, PC64, GOTOFF64, GOT64, GOTPC64. Each fills a word."""
