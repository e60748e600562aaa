// A node of js-ipfs with its RPC and its gateway on loopback, and no network besides.
// node daemon.mjs REPO API_PORT GATEWAY_PORT waits|refuses
//
// `refuses`: what is not in the repo is answered at once, as Kubo does under offline=true.
// `waits`: it is waited for as if a peer might bring it, as Kubo does without that option.

// Node.js 20 lacks it, and what is imported below calls it.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new this((resolved, rejected) => { resolve = resolved; reject = rejected })
  return { promise, resolve, reject }
}
const { Formidable } = await import('formidable')
const { create } = await import('ipfs-core')
const { HttpApi } = await import('ipfs-http-server')
const { HttpGateway } = await import('ipfs-http-gateway')

// What ends a body before its time is told to the form, and not to the part that is being read: an
// import whose client went away would never end, and gc would wait for it for ever. With Kubo the
// call ends with its client.
Object.defineProperty(Formidable.prototype, 'onPart', {
  set (take) {
    const told = (part) => {
      this.on('error', (error) => part.emit('error', error))
      return take(part)
    }
    Object.defineProperty(this, 'onPart', { value: told })
  }
})

const [repo, api, gateway, missing] = process.argv.slice(2)
const node = await create({
  repo,
  start: missing === 'waits',
  offline: true,
  silent: true,
  preload: { enabled: false },
  init: { emptyRepo: true, profiles: ['test'] },
  config: {
    Addresses: {
      Swarm: [],
      API: `/ip4/127.0.0.1/tcp/${api}`,
      Gateway: `/ip4/127.0.0.1/tcp/${gateway}`
    },
    Bootstrap: [],
    Discovery: { MDNS: { Enabled: false }, webRTCStar: { Enabled: false } }
  }
})
await new HttpGateway(node).start()
await new HttpApi(node).start()
