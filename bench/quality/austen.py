#!/usr/bin/env python3
"""Prints chapters of a novel by Jane Austen (died 1817, public domain): the judge's text of an author the calibration never saw.

Usage: austen.py BOOK [--from N] [--chapters N] [--package FILE.deb]      e.g. austen.py persuasion --chapters 6 > judge-2.txt
The text comes from Debian's package r-cran-janeaustenr (packaging MIT), fetched with `apt-get download` unless --package names it.
Lines are joined to paragraphs, for a model reads line ends as text. Needs Python's standard library, apt-get and dpkg-deb.
"""
import argparse
import pathlib
import re
import struct
import subprocess
import tempfile
import zlib

BOOKS = ["emma", "mansfieldpark", "northangerabbey", "persuasion", "prideprejudice", "sensesensibility"]


def strings_of(entry):
    """The strings of an R serialization that is one character vector (format versions 2 and 3)."""
    version = struct.unpack_from(">i", entry, 2)[0]
    at = 14 if version == 2 else 18 + struct.unpack_from(">i", entry, 14)[0]
    kind, count = struct.unpack_from(">ii", entry, at)
    if entry[:2] != b"X\n" or kind & 0xFF != 16:
        raise SystemExit("austen: the package's data are no longer one vector of lines a book")
    at, lines = at + 8, []
    for _ in range(count):
        length = max(0, struct.unpack_from(">i", entry, at + 4)[0])
        lines.append(entry[at + 8 : at + 8 + length].decode())
        at += 8 + length
    return lines


def books(package):
    """R's lazy-load database: per entry its length when unpacked (4 bytes, big-endian) and a zlib stream, in the order of BOOKS."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", str(package), folder], check=True)
        data = next(pathlib.Path(folder).rglob("data/Rdata.rdb")).read_bytes()
    while data:
        stream = zlib.decompressobj()
        entry = stream.decompress(data[4:])
        if len(entry) != struct.unpack_from(">I", data)[0]:
            raise SystemExit("austen: an entry of the package's data has another length than it says")
        data = stream.unused_data
        yield strings_of(entry)


def chapters(lines):
    text = "\n".join(lines)
    parts = re.split(r"\n\n+(?=chapter [0-9ivxl]+\b)", text, flags=re.IGNORECASE)[1:]
    for part in parts:
        paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", part)]
        yield "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("book", choices=BOOKS)
    parser.add_argument("--from", dest="first", type=int, default=1, help="first chapter (default 1)")
    parser.add_argument("--chapters", type=int, default=6, help="how many chapters (default 6)")
    parser.add_argument("--package", type=pathlib.Path, help="the package's file, where it was fetched already")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        package = args.package
        if package is None:
            subprocess.run(["apt-get", "-qq", "download", "r-cran-janeaustenr"], cwd=folder, check=True)
            package = next(pathlib.Path(folder).glob("*.deb"))
        book = list(books(package))[BOOKS.index(args.book)]
    print("\n\n".join(list(chapters(book))[args.first - 1 : args.first - 1 + args.chapters]))


if __name__ == "__main__":
    main()
