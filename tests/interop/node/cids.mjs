// Answers CIDs as implementations that are not ours compute them.
//
// stdin: {"by": "importer" | "ipld", "seed": text, "block_size": bytes,
//   "files": [{"leaf_size", "links_max", "size"}], "trees": [{..., "leaf_count", "last_size"}]}
// stdout: {"files": [cid], "trees": [cid]}; what the entries mean: tests/vectors/README.md.
// "ipld" knows no trees: it takes content only.

import { createHash } from 'node:crypto'
import { text } from 'node:stream/consumers'
import * as UnixFS from '@ipld/unixfs'
import { withMaxChunkSize } from '@ipld/unixfs/file/chunker/fixed'
import { withWidth } from '@ipld/unixfs/file/layout/balanced'
import { BlackHoleBlockstore } from 'blockstore-core'
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import * as Digest from 'multiformats/hashes/digest'
import { sha256 } from 'multiformats/hashes/sha2'

const asked = JSON.parse(await text(process.stdin))

const numbered = (index) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(index))
  return bytes
}

function * content (size) {
  for (let index = 0; index * asked.block_size < size; index++) {
    const hash = createHash('shake256', { outputLength: asked.block_size })
    const block = hash.update(asked.seed).update(numbered(index)).digest()
    yield block.subarray(0, Math.min(asked.block_size, size - index * asked.block_size))
  }
}

async function byImporter (entry, source, extra = {}) {
  const options = {
    cidVersion: 1,
    rawLeaves: true,
    reduceSingleLeafToSelf: true,
    wrapWithDirectory: false,
    fieldOrder: 'links-first',
    chunker: fixedSize({ chunkSize: entry.leaf_size }),
    layout: balanced({ maxChildrenPerNode: entry.links_max }),
    ...extra
  }
  for await (const root of importer([{ content: source }], new BlackHoleBlockstore(), options)) {
    return root.cid.toString()
  }
}

// For objects too large to be hashed: the importer's tree over leaves of which only the digest and
// the size are known. The digest of leaf i is SHA-256(i as 8 bytes, big-endian).
const imagined = (entry) => async function * () {
  for (let index = 0; index < entry.leaf_count; index++) {
    const digest = createHash('sha256').update(numbered(index)).digest()
    const cid = CID.createV1(raw.code, Digest.create(sha256.code, digest))
    const size = BigInt(index === entry.leaf_count - 1 ? entry.last_size : entry.leaf_size)
    yield async () => ({ cid, size, unixfs: undefined, block: new Uint8Array() })
  }
}

async function byIpld (entry, source) {
  const settings = UnixFS.configure({
    chunker: withMaxChunkSize(entry.leaf_size),
    fileChunkEncoder: raw,
    smallFileEncoder: raw,
    fileLayout: withWidth(entry.links_max)
  })
  const blocks = new TransformStream({}, { highWaterMark: 8 }, { highWaterMark: 8 })
  const dropped = blocks.readable.pipeTo(new WritableStream())
  const writer = UnixFS.createWriter({ writable: blocks.writable, settings })
  const file = UnixFS.createFileWriter(writer)
  for (const block of source) await file.write(new Uint8Array(block))
  const { cid } = await file.close()
  await writer.close()
  await dropped
  return cid.toString()
}

const answer = { files: [], trees: [] }
for (const entry of asked.files ?? []) {
  const source = content(entry.size)
  answer.files.push(await (asked.by === 'ipld' ? byIpld : byImporter)(entry, source))
}
for (const entry of asked.trees ?? []) {
  answer.trees.push(await byImporter(entry, [], { bufferImporter: imagined(entry) }))
}
console.log(JSON.stringify(answer))
