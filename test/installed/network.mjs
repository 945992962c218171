// A user's program: what the address guard rests on differs between runtimes (who resolves a name,
// who tries the next address, whose certificates are checked), so it is looked at in each of them.
// The certificates are made by test/deliver/tls/certificates.ts and last until the end of 2049.
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { WebhookDispatcher } from '@k-msg/webhook'

const certificates = JSON.parse(readFileSync(new URL('certificates.json', import.meta.url)))
const open = { allowedNetworks: ['127.0.0.0/8', '::1/128'] }
const event = { id: 'evt_1', type: 'message.sent', timestamp: new Date(), data: {} }

void main()

async function main() {
  const plain = await listen(createServer((request, response) => answer(request, response)))
  const seen = []
  const secure = await listen(
    createTlsServer(
      { ...certificates.server, ca: certificates.ca, requestCert: true, rejectUnauthorized: false },
      (request, response) => {
        seen.push(request.socket.authorized)
        answer(request, response)
      },
    ),
  )
  await guardsNames(plain)
  await resolvesByItself(plain)
  await checksCertificates(secure)
  assert.deepEqual(seen, [false, true], 'the receiver has not seen the client certificate')
  console.log('network ok')
  process.exit(0)
}

async function guardsNames(port) {
  const at = (...addresses) => ({ ...open, lookup: answers(addresses) })
  assert.equal(await send(port, at('127.0.0.1')), 'accepted')
  assert.equal(await send(port, { lookup: answers(['127.0.0.1']) }), 'blocked')
  assert.equal(await send(port, at('127.0.0.1', '10.0.0.1')), 'blocked')
  assert.equal(await send(port, at('10.0.0.1', '127.0.0.1')), 'blocked')
  assert.equal(await send(port, at('::ffff:127.0.0.1')), 'blocked')
  // A dead address before a live one.
  assert.equal(await send(port, at('127.0.0.2', '127.0.0.1')), 'accepted')
  assert.equal(await send(port, at('::1', '127.0.0.1')), 'accepted')
  assert.equal(await send(port, at('127.0.0.2')), 'unreachable')
}

async function resolvesByItself(port) {
  const names = createSocket('udp4')
  names.on('message', (query, from) => names.send(reply(query), from.port, from.address))
  names.bind(0, '127.0.0.1')
  await once(names, 'listening')
  const dns = { servers: [`127.0.0.1:${names.address().port}`] }
  assert.equal(await send(port, { ...open, dns }), 'accepted')
  assert.equal(await send(port, { dns }), 'blocked')
  assert.equal(await send(port, { ...open, dns }, 'http://absent.example.net'), 'unreachable')
  names.close()
}

async function checksCertificates(port) {
  const at = { ...open, lookup: answers(['127.0.0.1']) }
  const believing = { ...at, tls: { ca: certificates.ca } }
  const https = 'https://hooks.example.net'
  assert.equal(await send(port, at, https), 'unreachable')
  assert.equal(await send(port, believing, 'https://other.example.net'), 'unreachable')
  assert.equal(await send(port, believing, https), 'accepted')
  const tls = { ca: certificates.ca, ...certificates.client }
  assert.equal(await send(port, at, https, { tls }), 'accepted')
}

async function send(port, options, origin = 'http://hooks.example.net', fields = {}) {
  const dispatcher = new WebhookDispatcher(undefined, undefined, undefined, options)
  const { outcome } = await dispatcher.dispatch(event, {
    id: 'network',
    url: `${origin}:${port}/`,
    events: ['*'],
    secret: 'a-secret-of-the-network',
    ...fields,
  })
  await dispatcher.close()
  return outcome
}

function answers(addresses) {
  const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
  return (_, callback) => queueMicrotask(() => callback(null, found))
}

/** `hooks.…` is 127.0.0.1, nothing else exists. */
function reply(query) {
  const exists = query.toString('latin1', 13, 18) === 'hooks'
  const end = query.indexOf(0, 12) + 5
  const isA = query.readUInt16BE(end - 4) === 1
  const found = exists && isA ? [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1] : []
  const flags = [0x81, exists ? 0x80 : 0x83, 0, 1, 0, found.length > 0 ? 1 : 0, 0, 0, 0, 0]
  const parts = [query.subarray(0, 2), flags, query.subarray(12, end), found]
  return Buffer.concat(parts.map((part) => Buffer.from(part)))
}

function answer(request, response) {
  request.resume()
  response.end('ok')
}

async function listen(server) {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server.address().port
}
