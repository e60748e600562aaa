// Fetches a file from a trustless gateway, as a client that is not ours and believes nothing.
//
// stdin: {"gateway": URL, "root": cid}
// stdout: {"probe": [status, bytes], "size": bytes, "sha256": hex, "blocks": [cid]}: of the file,
//   read from one archive while it comes, depth first, no block kept; each block of it is then
//   fetched once more by itself.

import { createHash } from 'node:crypto'
import { text } from 'node:stream/consumers'
import { CarBlockIterator } from '@ipld/car'
import * as dagPB from '@ipld/dag-pb'
import { UnixFS } from 'ipfs-unixfs'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { sha256 } from 'multiformats/hashes/sha2'

const CAR = 'application/vnd.ipld.car'
const RAW = 'application/vnd.ipld.raw'

const ask = async (path, accept) => {
  const answer = await fetch(`${gateway}/ipfs/${path}`, { headers: { accept } })
  if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  const [type] = answer.headers.get('content-type').split(';')
  if (!accept.startsWith(type)) throw new Error(`${path}: ${type}`)
  return answer
}

const verify = async (cid, bytes) => {
  const { digest } = await sha256.digest(bytes)
  if (Buffer.compare(digest, cid.multihash.digest) !== 0) throw new Error(`not the bytes of ${cid}`)
}

const { gateway, root } = JSON.parse(await text(process.stdin))
const probe = await ask('bafkqaaa?format=raw', RAW)
const probed = [probe.status, (await probe.arrayBuffer()).byteLength]

const answer = await ask(`${root}?format=car`, `${CAR}; version=1; order=dfs; dups=y`)
if (!/order=dfs.*dups=y/.test(answer.headers.get('content-type'))) throw new Error('not as asked')
const file = createHash('sha256')
const blocks = []
const wanted = [CID.parse(root)]
let size = 0
for await (const { cid, bytes } of await CarBlockIterator.fromIterable(answer.body)) {
  const next = wanted.shift()
  if (!cid.equals(next)) throw new Error(`expected ${next}, got ${cid}`)
  await verify(cid, bytes)
  blocks.push(cid)
  if (cid.code === raw.code) {
    file.update(bytes)
    size += bytes.length
  } else {
    const { Data, Links } = dagPB.decode(bytes)
    if (UnixFS.unmarshal(Data).type !== 'file') throw new Error(`${cid} is no file`)
    wanted.unshift(...Links.map(({ Hash }) => Hash))
  }
}
if (wanted.length > 0) throw new Error(`it ended before ${wanted[0]}`)
for (const cid of blocks) {
  const block = await ask(`${cid}`, RAW)
  await verify(cid, new Uint8Array(await block.arrayBuffer()))
}
const told = { probe: probed, size, sha256: file.digest('hex'), blocks: blocks.map(String) }
process.stdout.write(JSON.stringify(told))
