// Writes cid.json: known answers from ipfs-unixfs-importer, an implementation that is not ours.
// How to run it: README.md in this folder. Deterministic; reads nothing.

import { createHash } from 'node:crypto'
import { BlackHoleBlockstore } from 'blockstore-core'
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import * as Digest from 'multiformats/hashes/digest'
import { sha256 } from 'multiformats/hashes/sha2'

const SEED = 'storage-gateway/cid-vectors-v1'
const BLOCK_SIZE = 65536
const LEAF_SIZE = 983280
const LINKS_MAX = 174

const numbered = (index) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(index))
  return bytes
}

function * content (size) {
  for (let index = 0; index * BLOCK_SIZE < size; index++) {
    const hash = createHash('shake256', { outputLength: BLOCK_SIZE })
    const block = hash.update(SEED).update(numbered(index)).digest()
    yield block.subarray(0, Math.min(BLOCK_SIZE, size - index * BLOCK_SIZE))
  }
}

async function root (leafSize, linksMax, source, extra = {}) {
  const options = {
    cidVersion: 1,
    rawLeaves: true,
    reduceSingleLeafToSelf: true,
    wrapWithDirectory: false,
    fieldOrder: 'links-first',
    chunker: fixedSize({ chunkSize: leafSize }),
    layout: balanced({ maxChildrenPerNode: linksMax }),
    ...extra
  }
  for await (const entry of importer([{ content: source }], new BlackHoleBlockstore(), options)) {
    return entry.cid.toString()
  }
}

// Objects too large to be hashed here: the importer's tree over leaves of which only the digest
// and the size are known. The digest of leaf i is SHA-256(i as 8 bytes, big-endian).
const imagined = (leafCount, leafSize, lastSize) => async function * () {
  for (let index = 0; index < leafCount; index++) {
    const digest = createHash('sha256').update(numbered(index)).digest()
    const cid = CID.createV1(raw.code, Digest.create(sha256.code, digest))
    const size = BigInt(index === leafCount - 1 ? lastSize : leafSize)
    yield async () => ({ cid, size, unixfs: undefined, block: new Uint8Array() })
  }
}

const files = []
const file = async (leafSize, linksMax, size) => {
  const cid = await root(leafSize, linksMax, content(size))
  files.push({ leaf_size: leafSize, links_max: linksMax, size, cid })
}

const large = [0, 1, LEAF_SIZE - 1, LEAF_SIZE, LEAF_SIZE + 1, 2 * LEAF_SIZE, 3 * LEAF_SIZE + 17,
  LINKS_MAX * LEAF_SIZE, LINKS_MAX * LEAF_SIZE + 1]
for (const size of large) await file(LEAF_SIZE, LINKS_MAX, size)
for (let leaves = 0; leaves <= 28; leaves++) await file(4, 3, 4 * leaves)
for (const size of [1, 3, 5, 11, 13, 35, 37, 107, 109, 323, 324, 325]) await file(4, 3, size)
for (let leaves = 2; leaves <= 17; leaves++) await file(16, 2, 16 * leaves - 7)
for (const leaves of [1, 2, 174, 175, 348, 349, 174 * 174, 174 * 174 + 1]) {
  await file(3, LINKS_MAX, 3 * leaves)
}

const trees = []
for (const [leafCount, lastSize] of [
  [1, LEAF_SIZE], [2, 1], [174, LEAF_SIZE], [175, 1],
  [4370, 983279], // more than 2^32 bytes
  [30276, LEAF_SIZE], [30277, 1], // 174 * 174 and one more
  [69906, 654321] // about 64 GiB
]) {
  const bufferImporter = imagined(leafCount, LEAF_SIZE, lastSize)
  const cid = await root(LEAF_SIZE, LINKS_MAX, [], { bufferImporter })
  trees.push({ leaf_size: LEAF_SIZE, links_max: LINKS_MAX, leaf_count: leafCount, last_size: lastSize, cid })
}

const lines = (entries) => entries.map((entry) => '    ' + JSON.stringify(entry)).join(',\n')
console.log(`{
  "seed": ${JSON.stringify(SEED)},
  "block_size": ${BLOCK_SIZE},
  "files": [\n${lines(files)}\n  ],
  "trees": [\n${lines(trees)}\n  ]
}`)
