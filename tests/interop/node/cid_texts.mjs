// Reads CID texts. stdin: [text]; stdout: [[version, codec, hash code, digest, binary, text again]],
// bytes in hex.

import { text } from 'node:stream/consumers'
import { CID } from 'multiformats/cid'

const hex = (bytes) => Buffer.from(bytes).toString('hex')

const read = (written) => {
  const cid = CID.parse(written)
  return [cid.version, cid.code, cid.multihash.code, hex(cid.multihash.digest), hex(cid.bytes),
    cid.toString()]
}

console.log(JSON.stringify(JSON.parse(await text(process.stdin)).map(read)))
