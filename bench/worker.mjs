// The npm package age-encryption with three hybrid recipients; speaks as bench/worker.py does.
// Started with `node --input-type=module --eval` where node_modules is, as imports are found there.

import { createInterface } from 'node:readline'
import { randomFillSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import * as age from 'age-encryption'

const answer = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const identities = await Promise.all([1, 2, 3].map(() => age.generateHybridIdentity()))
const encrypter = new age.Encrypter()
for (const each of identities) encrypter.addRecipient(await age.identityToRecipient(each))
const decrypter = new age.Decrypter()
decrypter.addIdentity(identities[2])

let plaintext = new Uint8Array(0)
let sealed
let opened
const works = {
  seal: async () => { sealed = await encrypter.encrypt(plaintext) },
  open: async () => { opened = await decrypter.decrypt(sealed) }
}
const check = async () => {
  opened = undefined
  await works.open()
  if (Buffer.compare(opened, plaintext) !== 0) throw new Error('what was sealed does not open')
}

const about = JSON.parse(readFileSync('node_modules/age-encryption/package.json', 'utf8'))
answer({ version: `age-encryption ${about.version} on Node.js ${process.version}` })
for await (const line of createInterface({ input: process.stdin })) {
  const { work, size, seconds: least } = JSON.parse(line)
  if (plaintext.length !== size) {
    plaintext = randomFillSync(new Uint8Array(size))
    await works.seal()
    await check()
  }
  let count = 0
  let seconds = 0
  const began = process.hrtime.bigint()
  do {
    await works[work]()
    count += 1
    seconds = Number(process.hrtime.bigint() - began) / 1e9
  } while (seconds < least)
  await check()
  answer({ count, seconds })
}
