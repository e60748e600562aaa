// Opens and seals age files and reads keys, as an implementation that is not ours does.
//
// stdin: {"ask": [{"do": "open", "file": base64, "identities": [text]}
//   | {"do": "seal", "plaintext": base64, "recipients": [text]}
//   | {"do": "recipient", "identity": text} | {"do": "keygen"}]}
// stdout: {"answers": [...]}: base64, base64, text, and text; null where a file did not open.

import { text } from 'node:stream/consumers'
import * as age from 'age-encryption'

const base64 = (bytes) => Buffer.from(bytes).toString('base64')

const open = async ({ file, identities }) => {
  const decrypter = new age.Decrypter()
  identities.forEach((identity) => decrypter.addIdentity(identity))
  try {
    return base64(await decrypter.decrypt(Buffer.from(file, 'base64')))
  } catch {
    return null
  }
}

const seal = async ({ plaintext, recipients }) => {
  const encrypter = new age.Encrypter()
  recipients.forEach((recipient) => encrypter.addRecipient(recipient))
  return base64(await encrypter.encrypt(Buffer.from(plaintext, 'base64')))
}

const verbs = {
  open,
  seal,
  recipient: ({ identity }) => age.identityToRecipient(identity),
  keygen: () => age.generateHybridIdentity()
}

const { ask } = JSON.parse(await text(process.stdin))
const answers = []
for (const asked of ask) answers.push(await verbs[asked.do](asked))
process.stdout.write(JSON.stringify({ answers }))
