// Owns what is sent to a receiver under test: signed events of the real service, whose requests pass
// a recorder that can lose an answer, and what an attacker makes of them. Says what was wrong.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { Finding, root } from './command.mjs'

export const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
/** Of the published Ed25519 vector. */
const privateKey =
  'whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=='

/**
 * Sends one event, one whose answer is lost, a batch, a replay and forgeries.
 *
 * @param url where the receiver takes webhooks
 * @param handled resolves to the ids of the events that its handlers got, in any order
 * @param holdsPublicKey it knows the public half of `privateKey`, too
 */
export async function checkDeliveries({ url, handled, holdsPublicKey = false }) {
  const recorder = await record(url)
  const { WebhookService, memory } = await import(pathToFileURL(path.join(root, 'dist/index.js')))
  const service = new WebhookService({
    storage: memory(),
    allowedNetworks: ['127.0.0.0/8'],
    retryScheduleMs: [20, 20, 20],
    logger: false,
  })
  try {
    await register(service, recorder.url)
    await sendsOne(service, recorder)
    await sendsAgainWhatWasLost(service, recorder)
    await sendsBatch(service, recorder)
    if (holdsPublicKey) await sendsSignedByPrivateKey(service, recorder)
    await refusesForgeries(recorder.requests[0], url)
  } finally {
    await service.close()
    recorder.close()
  }
  const wanted = ['evt_batch_1', 'evt_batch_2', 'evt_lost', 'evt_one']
  if (holdsPublicKey) wanted.push('evt_public')
  const ids = await settled(handled, wanted.length)
  assert.deepEqual(ids, wanted, 'each event is handled once')
}

async function register(service, url) {
  const one = { id: 'one', url, events: ['message.delivered'], secret }
  await service.registerEndpoint(one)
  const batched = { id: 'batched', url, events: ['message.failed'], secret }
  await service.registerEndpoint({ ...batched, batch: { size: 2, timeoutMs: 5_000 } })
}

async function sendsOne(service, { requests }) {
  await service.dispatchEvent(eventOf('evt_one', 'message.delivered'))
  await service.drain()
  assert.deepEqual(requests.map(statusOf), [200], requests[0]?.answer)
}

async function sendsAgainWhatWasLost(service, recorder) {
  recorder.loseNextAnswer()
  await service.dispatchEvent(eventOf('evt_lost', 'message.delivered'))
  await service.drain()
  const attempts = recorder.requests.slice(1)
  assert.deepEqual(attempts.map(statusOf), [200, 200])
  for (const { headers } of attempts) assert.equal(headers['webhook-id'], 'evt_lost')
}

async function sendsBatch(service, { requests }) {
  const events = ['evt_batch_1', 'evt_batch_2'].map((id) => eventOf(id, 'message.failed'))
  await service.dispatchEvents(events)
  await service.drain()
  const batch = requests.at(-1)
  assert.equal(batch.headers['x-webhook-event'], 'batch')
  assert.equal(batch.status, 200, batch.answer)
}

async function sendsSignedByPrivateKey(service, recorder) {
  const { url, requests } = recorder
  const endpoint = { id: 'asymmetric', url, events: ['message.read'], secret: privateKey }
  await service.registerEndpoint(endpoint)
  await service.dispatchEvent(eventOf('evt_public', 'message.read'))
  await service.drain()
  const { headers, status, answer } = requests.at(-1)
  assert.match(headers['webhook-signature'], /^v1a,/)
  assert.equal(headers['x-webhook-signature'], undefined)
  assert.equal(status, 200, answer)
}

async function refusesForgeries({ headers, body }, url) {
  const other = (changes, changedBody = body) =>
    post(url, { ...headers, ...changes, 'content-length': undefined }, changedBody)
  assert.equal((await other({})).status, 200, 'a replay is acknowledged')
  const tampered = body.toString().replace('evt_one', 'evt_two')
  assert.equal((await other({}, Buffer.from(tampered))).status, 401, 'a changed body')
  const later = String(Number(headers['webhook-timestamp']) + 1)
  assert.equal((await other({ 'webhook-timestamp': later })).status, 401, 'a changed timestamp')
  assert.equal((await other({ 'webhook-timestamp': '1600000000' })).status, 401, 'an old one')
  assert.equal((await other({ 'webhook-id': 'evt_two' })).status, 401, 'a changed id')
  assert.equal((await other({ 'webhook-signature': 'v1,' })).status, 400, 'half a signature')
  assert.equal((await other({ 'webhook-signature': undefined })).status, 401, 'no signature')
  assert.equal((await other({}, Buffer.alloc(1_100_000, 'x'))).status, 413, 'a huge body')
}

function eventOf(id, type) {
  // Numbers and escapes that do not survive being parsed and serialised again elsewhere.
  const data = { text: '안녕하세요 \u{1F44B} <&>"\\', messageId: `msg_${id}` }
  return { id, type, timestamp: new Date(), data }
}

function statusOf({ status }) {
  return status
}

/** A forwarding receiver: every request and its answer, byte for byte. */
async function record(target) {
  const requests = []
  let lose = false
  const server = createServer(async (request, response) => {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const body = Buffer.concat(chunks)
    const { status, answer } = await post(target, request.headers, body)
    requests.push({ headers: request.headers, body, status, answer })
    if (lose) {
      lose = false
      request.socket.destroy()
      return
    }
    response.writeHead(status).end(answer)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    requests,
    url: `http://127.0.0.1:${server.address().port}/`,
    loseNextAnswer: () => {
      lose = true
    },
    close: () => server.close().closeAllConnections(),
  }
}

/** Sends exactly these bytes; `undefined` takes a header away. */
function post(url, headers, body) {
  const given = Object.entries(headers).filter(([, value]) => value !== undefined)
  return new Promise((resolve, reject) => {
    const options = { method: 'POST', headers: Object.fromEntries(given), agent: false }
    const request = httpRequest(url, options, async (response) => {
      let answer = ''
      for await (const chunk of response) answer += chunk
      resolve({ status: response.statusCode, answer })
    })
    request.on('error', reject).end(body)
  })
}

/** What was handled may be told a moment after the answer. */
async function settled(handled, count) {
  const deadline = performance.now() + 5_000
  let ids = await handled()
  while (ids.length < count && performance.now() < deadline) {
    await delay(20)
    ids = await handled()
  }
  return [...ids].sort()
}

/**
 * Starts a server of ours or of an example and waits until it takes connections.
 *
 * @returns its output so far, and how to end it
 */
export async function startServer(program, args, { port, cwd, env = {}, timeoutMs = 30_000 }) {
  const child = spawn(program, args, {
    cwd,
    env: { ...process.env, NO_COLOR: '1', PORT: String(port), WEBHOOK_SECRET: secret, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  let output = ''
  let ended = false
  const end = () => {
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // It has ended by itself, or was never started.
    }
  }
  process.on('exit', end)
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk
    })
  }
  child.on('error', (error) => {
    output += error.message
    ended = true
  })
  child.on('exit', () => {
    ended = true
  })
  const deadline = performance.now() + timeoutMs
  while (!(await accepts(port))) {
    if (ended || performance.now() > deadline) {
      end()
      throw new Finding(`${path.basename(program)} ${args.join(' ')} takes no requests\n${output}`)
    }
    await delay(50)
  }
  return {
    output: () => output,
    stop: async () => {
      process.off('exit', end)
      const gone = ended ? undefined : once(child, 'exit')
      end()
      await gone
      process.off('exit', end)
    },
  }
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false))
    socket.on('connect', () => socket.destroy())
  })
}

/** A port nobody listens on. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}
