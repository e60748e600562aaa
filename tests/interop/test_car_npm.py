"""Goal: JavaScript implementations make the archives and nodes that we do; all read all.

Method: @ipld/car, @ipld/dag-pb with ipfs-unixfs, and ipfs-unixfs-importer are given what we are, at
random; the known answers are asked for again.
"""

from pathlib import Path
from random import Random
from typing import Any

from tests.unit.urn_samples import wrapped_file
from tests.vectors import make_cars
from urn import (
    CID,
    CARReader,
    Codec,
    DirectoryNode,
    Entry,
    FileNode,
    Link,
    car_header,
    car_section,
    cid_of,
    encode_directory,
    parse_node,
)
from urn.node import encode_file

ALPHABET = "abc. -_~%\\\n\x7fé\u07ff\uffff\U00010000\U0010ffff"


def test_the_vectors_are_what_the_packages_answer_today() -> None:
    committed = Path(make_cars.__file__).with_name("car.json").read_text("utf-8")

    assert committed == make_cars.render()


def random_cid(random: Random) -> CID:
    return CID(random.choice(list(Codec)), random.randbytes(32))


def random_blocks(random: Random) -> list[tuple[CID, bytes]]:
    sizes = [random.choice([0, 1, 90, 91, 92, 16_347, 16_348, 300_000]) for _ in range(5)]
    contents = [random.randbytes(size) for size in sizes]
    return [(cid_of(content, leaf_size=2**20), content) for content in contents]


def as_text(blocks: list[tuple[CID, bytes]]) -> list[list[str]]:
    return [[str(cid), block.hex()] for cid, block in blocks]


def test_archives_are_the_same_and_each_reads_the_other_s(seed: int, nightly: bool) -> None:
    random = Random(seed)
    archives = [
        ([random_cid(random) for _ in range(roots)], random_blocks(random))
        for roots in [1, 2, 23, 24, 199] * (10 if nightly else 1)
    ]
    written = [
        car_header(roots) + b"".join(car_section(cid, len(it)) + it for cid, it in blocks)
        for roots, blocks in archives
    ]
    asked: list[dict[str, Any]] = [{"do": "read", "car": car.hex()} for car in written]
    for roots, blocks in archives:
        asked.append({"do": "write", "roots": list(map(str, roots)), "blocks": as_text(blocks)})
    answers = make_cars.ask(asked)

    for (roots, blocks), theirs in zip(archives, answers[: len(archives)], strict=True):
        assert {"roots": list(map(str, roots)), "blocks": as_text(blocks)} == theirs
    for (roots, blocks), ours, theirs in zip(
        archives, written, answers[len(archives) :], strict=True
    ):
        assert ours.hex() == theirs
        reader = CARReader()
        assert blocks == list(reader.feed(bytes.fromhex(theirs)))
        reader.finish()
        assert tuple(roots) == reader.roots


def test_directories_are_the_same_and_each_reads_the_other_s(seed: int, nightly: bool) -> None:
    random = Random(seed)
    directories = []
    for _ in range(1000 if nightly else 100):
        names = {"".join(random.choices(ALPHABET, k=random.randint(1, 6))) for _ in range(5)}
        directories.append(
            [
                Entry(name, random_cid(random), random.randrange(2 ** random.randint(1, 53)))
                for name in sorted(names - {".", ".."}, key=lambda _: random.random())
            ]
        )
    made = [encode_directory(entries)[1] for entries in directories]
    asked: list[dict[str, Any]] = [
        {"do": "directory", "entries": [(it.name, str(it.cid), it.tree_size) for it in entries]}
        for entries in directories
    ]
    answers = make_cars.ask([*asked, *({"do": "node", "block": it.hex()} for it in made)])

    assert [block.hex() for block in made] == answers[: len(made)]
    for block, read in zip(made, answers[len(made) :], strict=True):
        node = parse_node(block)
        assert isinstance(node, DirectoryNode)
        links = [[it.name, str(it.cid), it.tree_size] for it in node.entries]
        assert {"type": "directory", "links": links, "sizes": []} == read


def random_links(random: Random) -> list[Link]:
    links = []
    # Below 2 GiB in all: above, protons-runtime miscounts (docs/names.md).
    for _ in range(random.choice([1, 2, 5, 174])):
        cid, size = random_cid(random), random.randint(1, 2 ** random.randint(1, 23))
        more = 0 if cid.codec is Codec.RAW else random.randint(1, 2 ** random.randint(1, 40))
        links.append(Link(cid, size, size + more))
    return links


def test_nodes_of_files_are_the_same_and_each_reads_the_other_s(seed: int, nightly: bool) -> None:
    random = Random(seed)
    files = [random_links(random) for _ in range(300 if nightly else 50)]
    made = [encode_file(links)[1] for links in files]
    asked: list[dict[str, Any]] = [
        {"do": "file", "links": [(str(it[0]), *it[1:]) for it in links]} for links in files
    ]
    answers = make_cars.ask([*asked, *({"do": "node", "block": it.hex()} for it in made)])

    assert [block.hex() for block in made] == answers[: len(made)]
    for block, links, read in zip(made, files, answers[len(made) :], strict=True):
        node = parse_node(block)
        assert isinstance(node, FileNode)
        assert tuple(links) == node.links
        named = [["", str(it.cid), it.tree_size] for it in links]
        sizes = [it.content_size for it in links]
        assert {"type": "file", "links": named, "sizes": sizes} == read


def test_the_importer_puts_the_blocks_that_we_make(seed: int, nightly: bool) -> None:
    random = Random(seed)
    cases = [
        (random.randbytes(random.randrange(400 * leaf)), leaf, random.choice([2, 3, 5, 174]))
        for leaf in [random.randint(1, 40) for _ in range(100 if nightly else 15)]
    ]
    answers = make_cars.ask(
        [
            {**make_cars.wrapped(0, leaf, links), "content": data.hex()}
            for data, leaf, links in cases
        ]
    )

    for case, theirs in zip(cases, answers, strict=True):
        link, made = wrapped_file("payload", *case)
        assert str(link.cid) == theirs[-1][0]
        assert {str(cid): block.hex() for cid, block in made.items()} == dict(theirs)
