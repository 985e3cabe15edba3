"""The pages of LMDB's file, looked at before LMDB maps them.

LMDB trusts its file. It follows a page number or a size of a damaged page wherever that leads, and the process dies by
SIGSEGV or SIGBUS without a word. Of two meta pages it takes the one with the higher transaction number, so that one
changed bit there brings back an older state. This module reads the file by ``pread`` and says what is wrong with it.

*What is checked.* Both meta pages; their transaction numbers follow each other, each on its own page. Every page that
is reached from the newer one: its own number, its kind, its bounds, its keys. No page is used twice, or is used and in
the list of free pages: a pointer to an older version of a page leads to one that is free by now. The counts of pages
and entries are those of the tree. Leaves of a large tree are read later: :func:`check_range` checks those that are
about to be read or deleted. An entry is appended to the last leaf, which is checked at once.

*What is not.* The contents of records, which have checksums of their own. What is on free pages, which may lie behind
the end of the file. A whole file that is older than the newest is sound.

*Why not* ``lmdb.verify``? It checks the same and more, and takes 1.3 s for a journal of 64 MiB, where this takes 0.03
s. It accepts meta pages whose transactions do not follow each other.

The layout is that of LMDB 0.9 (``mdb.c``) on a machine of 64 bits, little-endian, where numbers and pages are::

    page    pgno u64, pad u16, flags u16, lower u16, upper u16, then offsets of nodes u16 up to ``lower``; nodes from
            ``upper`` to the end. Of an overflow page: pgno, pad, flags, number of pages u32, then data over all of them
    node    lo u16, hi u16, flags u16, key size u16, key, data. In a leaf, hi:lo is the size of the data; in a branch,
            flags:hi:lo is a page
    db      pad u32, flags u16, depth u16, branch pages, leaf pages, overflow pages, entries, root (u64 each)
    meta    magic u32, version u32, address u64, map size u64, db of free pages, main db, last page u64, transaction u64
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator
from typing import NamedTuple

_HEADER = struct.Struct("<QHHHH")
_PAGES = struct.Struct("<I")
_NODE = struct.Struct("<HHHH")
_DB = struct.Struct("<IHHQQQQQ")
_META = struct.Struct("<IIQQ48s48sQQ")
_NUMBER = struct.Struct("<Q")
_PAGES_AT = 12
"""Where an overflow page says how many it is."""
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _IS_META = 1, 2, 4, 8
_BIG, _SUB = 1, 2
"""Of a node: its data is on overflow pages; its data is a db."""
_INTEGER_KEYS = 8
"""The flag of the db of free pages."""
_NO_ROOT = (1 << 64) - 1
_METAS = 2
_PAGE_BYTES = tuple(1 << bits for bits in range(9, 17))
_MAX_DEPTH = 32
"""LMDB's own bound (CURSOR_STACK)."""
FREE_BEHIND = 1 << 20
"""Free pages may lie behind the end of the file, where they were never written. More of them are a damaged number."""
WHOLE_LEAVES = 2_048
"""A tree of so many leaves, 8 MiB, is read whole before LMDB opens the file: that takes 40 ms."""


class PagesDamaged(Exception):
    """The file is not as LMDB left it; the message says where."""


class PagesForeign(Exception):
    """The file may be sound, and is not of the kind that is read here; the message says what it is."""


class Db(NamedTuple):
    """One tree, as the page above it describes it."""

    pad: int
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int


class Meta(NamedTuple):
    """The newer of the two meta pages."""

    page_bytes: int
    free: Db
    main: Db
    last_page: int
    transaction: int


class _Node(NamedTuple):
    key: bytes
    data: bytes
    flags: int
    size: int
    """Of its data; of a node in a branch, the page below."""


def check_file(descriptor: int, names: Collection[bytes]) -> None:
    """Check all that can be reached in an open file. A file without a byte is sound: LMDB begins it.

    Args:
        descriptor: the file, open for reading.
        names: the trees that it may have.

    Raises:
        PagesDamaged: it is not as LMDB left it.
        PagesForeign: it is no file of this LMDB, or has other trees.
    """
    if not os.fstat(descriptor).st_size:
        return
    file = _File(descriptor)
    file.begin_count()
    file.main.check("main")
    trees = dict(file.trees())
    if not trees.keys() <= set(names):
        raise PagesForeign(f"it holds {', '.join(repr(name.decode(errors='replace')) for name in trees)}")
    for name, tree in trees.items():
        tree.check(name.decode())
    file.free.check("free pages")
    file.check_free(sum(tree.unread for tree in trees.values()))


def check_range(descriptor: int, name: bytes, first: bytes, last: bytes) -> None:
    """Check what is followed on the way to the keys from ``first`` to ``last`` of a tree, as it was last committed: of
    leaves that they may be on, the bounds of each node.

    Raises:
        PagesDamaged: one of them is not as LMDB left it.
    """
    tree = dict(_File(descriptor).trees())[name]
    for number in tree.leaves(first, last):
        tree.check_bounds(number)


def _read_meta(descriptor: int) -> Meta:
    """What the newer meta page says. Raises PagesDamaged, PagesForeign."""
    size = _HEADER.size + _META.size
    first = os.pread(descriptor, size, 0)
    if len(first) < size:
        raise PagesDamaged(f"it was cut off after {len(first)} bytes")
    metas = [_parse_meta(0, first)]
    metas.append(_parse_meta(1, os.pread(descriptor, size, metas[0].page_bytes)))
    transactions = [meta.transaction for meta in metas]
    newer = int(transactions[1] > transactions[0])
    follow = abs(transactions[0] - transactions[1]) == 1 and metas[newer].transaction % 2 == newer
    if not follow and transactions != [0, 0]:
        raise PagesDamaged(f"its two meta pages are of the transactions {transactions[0]} and {transactions[1]}")
    if metas[0].page_bytes != metas[1].page_bytes:
        raise PagesDamaged("its two meta pages name pages of different sizes")
    return metas[newer]


def _parse_meta(number: int, page: bytes) -> Meta:
    if len(page) < _HEADER.size + _META.size:
        raise PagesDamaged("it was cut off within its second page")
    own, _, flags, _, _ = _HEADER.unpack_from(page)
    magic, version, address, _, free, main, last_page, transaction = _META.unpack_from(page, _HEADER.size)
    if magic != _MAGIC and not number:
        raise PagesForeign("it does not begin as a file of this LMDB does")
    if (own, flags, magic, address) != (number, _IS_META, _MAGIC, 0):
        raise PagesDamaged(f"page {number} is no meta page")
    if version != _VERSION:
        raise PagesForeign(f"it has version {version} of LMDB's format, and version {_VERSION} is read here")
    free_db = Db._make(_DB.unpack(free))
    if free_db.pad not in _PAGE_BYTES:
        raise PagesDamaged(f"page {number} names pages of {free_db.pad} bytes")
    return Meta(free_db.pad, free_db, Db._make(_DB.unpack(main)), last_page, transaction)


class _File:
    """One look at a file, from its newer meta page on."""

    def __init__(self, descriptor: int) -> None:
        """Raises PagesDamaged, PagesForeign."""
        self._descriptor = descriptor
        self._meta = meta = _read_meta(descriptor)
        self.page_bytes = meta.page_bytes
        self.pages = os.fstat(descriptor).st_size // meta.page_bytes
        self.main = _Tree(self, meta.main, 0)
        self.free = _Tree(self, meta.free, _INTEGER_KEYS)
        self._used = bytearray()
        """For each page whether it was met; empty before :meth:`begin_count`."""

    def trees(self) -> Iterator[tuple[bytes, _Tree]]:
        """The named trees. Raises PagesDamaged, PagesForeign."""
        for number in self.main.leaves():
            for node in self.main.nodes(number):
                if node.flags != _SUB or node.size != _DB.size:
                    raise PagesForeign("it holds records beside its trees")
                yield node.key, _Tree(self, Db._make(_DB.unpack(node.data)), 0)

    def begin_count(self) -> None:
        """From now on each page may be met once."""
        last = self._meta.last_page
        if not _METAS - 1 <= last <= 2 * self.pages + FREE_BEHIND:
            raise PagesDamaged(f"it has {self.pages} pages, and names a page {last}")
        self._used = bytearray(last + 1)
        self._used[:_METAS] = b"\1" * _METAS

    def use(self, number: int) -> None:
        """A page is met that the file must have."""
        if number >= self.pages:
            raise PagesDamaged(f"page {number} is in use, and the file has {self.pages} pages: it was cut off")
        self._meet(number)

    def _meet(self, number: int) -> None:
        if number >= len(self._used) or self._used[number]:
            raise PagesDamaged(f"page {number} is used twice, or is none")
        self._used[number] = 1

    def check_free(self, unread: int) -> None:
        """The free pages: none of them is in use, and all others are, but for so many ``unread`` pages."""
        for number in self.free.leaves():
            for node in self.free.nodes(number):
                self._check_free_list(number, node)
        if self._used.find(0, self.pages) >= 0:
            raise PagesDamaged(f"it has {self.pages} pages, and page {self._used.find(0, self.pages)} is in use")
        if self._used.count(0) != unread:
            raise PagesDamaged(f"of its pages {self._used.count(0)} are neither in use nor free")

    def _check_free_list(self, number: int, node: _Node) -> None:
        data = self.free.data(number, node)
        numbers = array("Q", data[: len(data) // _NUMBER.size * _NUMBER.size])
        is_list = len(node.key) == _NUMBER.size and numbers and numbers[0] < len(numbers)
        if not is_list or _NUMBER.unpack(node.key)[0] > self._meta.transaction:
            raise PagesDamaged(f"page {number} has no list of free pages")
        for each in numbers[1 : numbers[0] + 1]:
            self._meet(each)

    def page(self, number: int, kind: int) -> bytes:
        """One page, with its own number on it. Raises PagesDamaged."""
        page = self.read(number, self.page_bytes)
        own, _, flags, _, _ = _HEADER.unpack_from(page)
        if own != number or flags != kind:
            raise PagesDamaged(f"page {number} is another one, or no page")
        return page

    def read(self, number: int, size: int, offset: int = 0) -> bytes:
        """Bytes from a page on. Raises PagesDamaged."""
        data = os.pread(self._descriptor, size, number * self.page_bytes + offset)
        if len(data) < size:
            raise PagesDamaged(f"it was cut off within page {number}")
        return data


class _Tree:
    """One B+tree."""

    def __init__(self, file: _File, db: Db, flags: int) -> None:
        """``flags``: what its kind of tree must have."""
        self._file = file
        self.db = db
        self._flags = flags
        self._is_free = flags == _INTEGER_KEYS
        self._is_large = flags != _INTEGER_KEYS and db.leaf_pages > WHOLE_LEAVES
        self._found = [0, 0, 0, 0]
        """Branch pages, leaf pages, overflow pages, entries."""
        self.unread = 0
        """Overflow pages that :meth:`check` did not come to."""

    def check(self, name: str) -> None:
        """All its pages, each used once; of a large tree, of its leaves only the last. Raises PagesDamaged."""
        db, found = self.db, self._found
        if db.flags != self._flags:
            raise PagesDamaged(f"the tree of {name} has the flags {db.flags:#x}")
        if db.root != _NO_ROOT:
            self._check_below(db.root, db.depth, is_last=True)
        self.unread = db.overflow_pages - found[2]
        is_counted = found[3] == db.entries and not self.unread
        if found[:2] != [db.branch_pages, db.leaf_pages] or not (self._is_large or is_counted):
            raise PagesDamaged(f"the tree of {name} does not have the pages and entries that its root counts")

    def _check_below(self, number: int, height: int, is_last: bool) -> None:
        """A page and all below it. ``is_last``: no page of its height stands to its right."""
        self._check_height(number, height)
        self._file.use(number)
        self._found[0 if height > 1 else 1] += 1
        if height > 1:
            below = [node.size for node in self._branch(number)]
            for each in below:
                self._check_below(each, height - 1, is_last and each == below[-1])
        elif is_last or not self._is_large:
            self._check_leaf(number)

    def _check_leaf(self, number: int) -> None:
        for node in self.nodes(number):
            self._found[3] += 1
            if node.flags == _BIG:
                for each in self.overflow(number, node):
                    self._file.use(each)
                    self._found[2] += 1

    def _check_height(self, number: int, height: int) -> None:
        if not 0 < height <= self.db.depth <= _MAX_DEPTH:
            raise PagesDamaged(f"page {number} is in a tree that is {self.db.depth} pages deep")

    def leaves(self, first: bytes | None = None, last: bytes | None = None) -> Iterator[int]:
        """The pages of its leaves, or of those that may have a key from ``first`` to ``last``. Raises PagesDamaged."""
        if self.db.root == _NO_ROOT:
            return iter(())
        return self._leaves(self.db.root, self.db.depth, first, last)

    def _leaves(self, number: int, height: int, first: bytes | None, last: bytes | None) -> Iterator[int]:
        self._check_height(number, height)
        if height == 1:
            yield number
            return
        page = self._file.page(number, _BRANCH)
        offsets = self._offsets(number, page)

        def key(offset: int) -> bytes:
            return self._node(number, page, offset, is_branch=True).key

        start = 0 if first is None else bisect_right(offsets, first, 1, key=key) - 1
        end = len(offsets) if last is None else bisect_right(offsets, last, 1, key=key)
        for offset in offsets[start:end]:
            yield from self._leaves(self._node(number, page, offset, is_branch=True).size, height - 1, first, last)

    def check_bounds(self, number: int) -> None:
        """Each node of a leaf lies on its page, whatever its key. A turn may wait for this: 0.3 us a node."""
        page = self._file.page(number, _LEAF)
        for offset in self._offsets(number, page):
            low, high, flags, key_bytes = _NODE.unpack_from(page, offset)
            if flags or offset + _NODE.size + key_bytes + (low | high << 16) > len(page):
                node = self._node(number, page, offset)
                if node.flags == _BIG:
                    self.overflow(number, node)

    def nodes(self, number: int) -> Iterator[_Node]:
        """The nodes of a leaf, whose keys only grow. Raises PagesDamaged."""
        page = self._file.page(number, _LEAF)
        return self._ordered(number, page, self._offsets(number, page))

    def _branch(self, number: int) -> list[_Node]:
        """The nodes of a branch; the first one has no key."""
        page = self._file.page(number, _BRANCH)
        return list(self._ordered(number, page, self._offsets(number, page), is_branch=True))

    def _ordered(self, number: int, page: bytes, offsets: list[int], is_branch: bool = False) -> Iterator[_Node]:
        before: bytes | None = None
        for offset in offsets:
            node = self._node(number, page, offset, is_branch)
            key = node.key[::-1] if self._is_free else node.key  # its keys are little-endian
            if before is not None and before >= key:
                raise PagesDamaged(f"page {number} has its keys out of order")
            before = key
            yield node

    def _offsets(self, number: int, page: bytes) -> list[int]:
        """Where the nodes of a page begin. Raises PagesDamaged."""
        _, _, _, lower, upper = _HEADER.unpack_from(page)
        if not _HEADER.size < lower <= upper <= len(page) or lower % 2:
            raise PagesDamaged(f"page {number} has no nodes")
        offsets = memoryview(page)[_HEADER.size : lower].cast("H").tolist()
        if min(offsets) < upper or max(offsets) > len(page) - _NODE.size:
            raise PagesDamaged(f"page {number} has a node outside of its bounds")
        return offsets

    def _node(self, number: int, page: bytes, offset: int, is_branch: bool = False) -> _Node:
        low, high, flags, key_bytes = _NODE.unpack_from(page, offset)
        start, size = offset + _NODE.size + key_bytes, low | high << 16
        if is_branch:
            flags, size, taken = 0, size | flags << 32, 0
        else:
            taken = _NUMBER.size if flags == _BIG else size
        if flags not in (0, _BIG, _SUB) or start + taken > len(page):
            raise PagesDamaged(f"page {number} has a node that is longer than the page")
        return _Node(page[offset + _NODE.size : start], page[start : start + taken], flags, size)

    def overflow(self, number: int, node: _Node) -> range:
        """The pages that hold the data of a node. Raises PagesDamaged."""
        (start,) = _NUMBER.unpack(node.data)
        count = (_HEADER.size - 1 + node.size) // self._file.page_bytes + 1
        (counted,) = _PAGES.unpack_from(self._file.page(start, _OVERFLOW), _PAGES_AT)
        if counted != count or start + count > self._file.pages:
            raise PagesDamaged(f"page {number} has {count} pages of data, from page {start} on, which has {counted}")
        return range(start, start + count)

    def data(self, number: int, node: _Node) -> bytes:
        """All data of a node. Raises PagesDamaged."""
        if node.flags != _BIG:
            return node.data
        return self._file.read(self.overflow(number, node).start, node.size, _HEADER.size)
