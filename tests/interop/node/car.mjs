// Writes and reads archives and nodes, as implementations that are not ours do.
//
// stdin: {"ask": [{"do": "write", "roots": [cid], "blocks": [[cid, hex]]}   -> the archive in hex
//   | {"do": "read", "car": hex}   -> {"roots": [cid], "blocks": [[cid, hex]]}, null where refused
//   | {"do": "directory", "entries": [[name, cid, tree size]]}   -> the block in hex
//   | {"do": "file", "links": [[cid, content size, tree size]]}   -> the block in hex
//   | {"do": "node", "block": hex}   -> {"type": text, "links": [[name, cid, tree size]],
//       "sizes": [content size]}, null where refused
//   | {"do": "wrapped", "name": text, "content": hex, "leaf_size": bytes, "links_max": number}]}
//       -> [[cid, hex]]: what the importer puts, for a directory with that one file in it
// stdout: {"answers": [...]}

import { text } from 'node:stream/consumers'
import { CarReader, CarWriter } from '@ipld/car'
import * as dagPB from '@ipld/dag-pb'
import { MemoryBlockstore } from 'blockstore-core'
import { UnixFS } from 'ipfs-unixfs'
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'
import { CID } from 'multiformats/cid'

const hex = (bytes) => Buffer.from(bytes).toString('hex')
const unhex = (digits) => new Uint8Array(Buffer.from(digits, 'hex'))
const encode = (Data, Links) => hex(dagPB.encode(dagPB.prepare({ Data, Links })))

const write = async ({ roots, blocks }) => {
  const { writer, out } = CarWriter.create(roots.map((cid) => CID.parse(cid)))
  const written = (async () => {
    const pieces = []
    for await (const piece of out) pieces.push(piece)
    return hex(Buffer.concat(pieces))
  })()
  for (const [cid, bytes] of blocks) await writer.put({ cid: CID.parse(cid), bytes: unhex(bytes) })
  await writer.close()
  return written
}

const read = async ({ car }) => {
  try {
    const reader = await CarReader.fromBytes(unhex(car))
    const blocks = []
    for await (const { cid, bytes } of reader.blocks()) blocks.push([cid.toString(), hex(bytes)])
    return { roots: (await reader.getRoots()).map(String), blocks }
  } catch {
    return null
  }
}

const directory = ({ entries }) => encode(
  new UnixFS({ type: 'directory' }).marshal(),
  entries.map(([Name, cid, Tsize]) => ({ Name, Hash: CID.parse(cid), Tsize }))
)

const file = ({ links }) => encode(
  new UnixFS({ type: 'file', blockSizes: links.map(([, size]) => BigInt(size)) }).marshal(),
  links.map(([cid, , Tsize]) => ({ Name: '', Hash: CID.parse(cid), Tsize }))
)

const node = ({ block }) => {
  try {
    const { Data, Links } = dagPB.decode(unhex(block))
    const { type, blockSizes } = UnixFS.unmarshal(Data)
    const links = Links.map(({ Name, Hash, Tsize }) => [Name, Hash.toString(), Tsize])
    return { type, links, sizes: blockSizes.map(Number) }
  } catch {
    return null
  }
}

const wrapped = async ({ name, content, leaf_size: chunkSize, links_max: maxChildrenPerNode }) => {
  const blocks = new MemoryBlockstore()
  const put = []
  const noting = {
    put: (cid, bytes) => { put.push([cid.toString(), hex(bytes)]); return blocks.put(cid, bytes) },
    get: (cid) => blocks.get(cid)
  }
  const options = {
    cidVersion: 1,
    rawLeaves: true,
    reduceSingleLeafToSelf: true,
    wrapWithDirectory: true,
    chunker: fixedSize({ chunkSize }),
    layout: balanced({ maxChildrenPerNode })
  }
  const source = [{ path: name, content: unhex(content) }]
  for await (const _ of importer(source, noting, options));
  return put
}

const verbs = { write, read, directory, file, node, wrapped }
const { ask } = JSON.parse(await text(process.stdin))
const answers = []
for (const asked of ask) answers.push(await verbs[asked.do](asked))
process.stdout.write(JSON.stringify({ answers }))
