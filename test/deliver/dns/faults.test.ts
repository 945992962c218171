/** C6 of the fault list: what a name server can do to a sender, over real sockets. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { DispatcherOptions } from '../../../src/deliver/attempt-request.ts'
import { WebhookDispatcher } from '../../../src/deliver/dispatcher.ts'
import { isDnsTrouble, outcomeError } from '../../../src/model/outcome.ts'
import { attempt, attemptRequest, endpointRecord, type Receiver, receive } from '../receivers.ts'
import { type DnsAnswer, type NameServer, nameServer, type RecordType } from './name-server.ts'

const many = Array.from({ length: 200 }, (_, i) => ({ data: `127.0.1.${i}` }))
const tooMany = Array.from({ length: 300 }, (_, i) => ({ data: `127.0.2.${i % 250}` }))
const local = [{ data: '127.0.0.1' }]

/** By the first label of the name. */
const zones: Record<string, (type: RecordType, asked: number) => DnsAnswer> = {
  good: (type) => (type === 'A' ? local : []),
  nxdomain: () => ({ rcode: 3 }),
  servfail: () => ({ rcode: 2 }),
  refused: () => ({ rcode: 5 }),
  silent: () => null,
  empty: () => [],
  many: (type) => (type === 'A' ? [...local, ...many] : []),
  'too-many': (type) => (type === 'A' ? tooMany : []),
  ttl0: (type) => (type === 'A' ? [{ data: '127.0.0.1', ttl: 0 }] : []),
  loop: () => [
    { type: 'CNAME', data: 'loop2.example.net' },
    { name: 'loop2.example.net', type: 'CNAME', data: 'loop.example.net' },
  ],
  alias: (type) =>
    type === 'A'
      ? [
          { type: 'CNAME', data: 'good.example.net' },
          { name: 'good.example.net', data: '127.0.0.1' },
        ]
      : [],
  'no-aaaa': (type) => (type === 'A' ? local : null),
  'broken-aaaa': (type) => (type === 'A' ? local : { rcode: 2 }),
  mixed: (type) => (type === 'A' ? [...local, { data: '10.0.0.1' }] : []),
  'mixed-first': (type) => (type === 'A' ? [{ data: '10.0.0.1' }, ...local] : []),
  'mixed-family': (type) => (type === 'A' ? local : [{ data: 'fd00::1' }]),
  mapped: (type) => (type === 'A' ? [] : [{ data: '::ffff:127.0.0.1' }]),
  // Public at first, then the metadata service: what rebinding does.
  rebind: (_, asked) => [{ data: asked === 0 ? '127.0.0.1' : '169.254.169.254', ttl: 0 }],
}

let server: NameServer
let receiver: Receiver
const questions = new Map<string, number>()

beforeAll(async () => {
  server = await nameServer((name, type) => {
    const [zone = ''] = name.split('.')
    const question = `${type} ${name}`
    const asked = questions.get(question) ?? 0
    questions.set(question, asked + 1)
    if (zone === 'rebind' && type === 'AAAA') return []
    if (zone.startsWith('dead')) return null
    const answer = zones[zone.replace(/^alive\d+$/, 'good')]
    return answer === undefined ? { rcode: 3 } : answer(type, asked)
  })
  receiver = await receive((response) => {
    response.setHeader('connection', 'close')
    response.end()
  })
})
afterAll(async () => {
  await receiver[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
})

function build(options: DispatcherOptions = {}) {
  return new WebhookDispatcher(undefined, undefined, undefined, {
    allowedNetworks: ['127.0.0.0/8'],
    dns: { servers: [server.address], timeoutMs: 1_500 },
    ...options,
  })
}

const endpointAt = (zone: string) =>
  endpointRecord(`http://${zone}.example.net:${receiver.port}/hook`)

async function outcomeOf(zone: string, dispatcher = build()) {
  const report = await attempt(dispatcher, attemptRequest(endpointAt(zone)))
  await dispatcher.close()
  return report
}

it.each(['good', 'alias', 'ttl0', 'no-aaaa', 'broken-aaaa'])('delivers: %s', async (zone) => {
  const { outcome } = await outcomeOf(zone)
  expect(outcome).toMatchObject({ kind: 'accepted', status: 200 })
})

it('fetches 201 records over TCP when they do not fit into a datagram', async () => {
  const { outcome } = await outcomeOf('many')
  expect(outcome).toMatchObject({ kind: 'accepted' })
  expect(server.asked).toContain('A many.example.net')
  expect(server.asked).toContain('tcp A many.example.net')
})

it.each([
  ['nxdomain', 'ENOTFOUND'],
  ['servfail', 'ESERVFAIL'],
  ['refused', 'EREFUSED'],
  ['empty', 'ENODATA'],
  ['loop', 'ENODATA'],
  ['silent', 'ETIMEOUT'],
  ['too-many', 'TOO_MANY_ADDRESSES'],
])('classifies within its limit: %s', async (zone, code) => {
  const { outcome, latencyMs } = await outcomeOf(zone)
  expect(outcome).toEqual({ kind: 'unreachable', code, at: 'dns' })
  // Never a reason to disable the endpoint: the trouble may be ours.
  expect(isDnsTrouble(outcome)).toBe(true)
  expect(latencyMs).toBeLessThan(5_000)
})

it('tells DNS trouble from trouble of the receiver', async () => {
  const refused = new WebhookDispatcher(undefined, undefined, undefined, {
    allowedNetworks: ['127.0.0.0/8'],
  })
  const { outcome } = await attempt(refused, attemptRequest(endpointRecord('http://127.0.0.1:1/')))
  expect(outcome.kind).toBe('unreachable')
  expect(isDnsTrouble(outcome)).toBe(false)
  await refused.close()
  const short = build()
  const endpoint = endpointAt('silent')
  const late = await attempt(short, attemptRequest(endpoint, { timeoutMs: 50 }))
  expect(late.outcome).toEqual({ kind: 'timed-out', phase: 'dns' })
  expect(isDnsTrouble(late.outcome)).toBe(true)
  await short.close()
})

it.each([
  ['mixed', '10.0.0.1'],
  ['mixed-first', '10.0.0.1'],
  ['mixed-family', 'fd00::1'],
  ['mapped', '::ffff:127.0.0.1'],
])('refuses all addresses for a bad one: %s', async (zone, address) => {
  const before = receiver.sockets.length
  const { outcome } = await outcomeOf(zone)
  expect(outcome).toEqual({ kind: 'blocked', address })
  expect(receiver.sockets).toHaveLength(before)
})

it('gives customers the same words for a blocked name and one that does not exist', async () => {
  const blocked = await outcomeOf('mixed')
  const absent = await outcomeOf('nxdomain')
  const silent = await outcomeOf('silent')
  const [text, ...others] = [blocked, absent, silent].map(({ outcome }) => outcomeError(outcome))
  expect(text).toContain('no address that may be used')
  expect(others).toEqual([text, text])
})

it('checks every connection: a name that is rebound is refused at the next one', async () => {
  const dispatcher = build()
  const endpoint = endpointAt('rebind')
  const first = await attempt(dispatcher, attemptRequest(endpoint))
  const second = await attempt(dispatcher, attemptRequest(endpoint))
  expect(first.outcome.kind).toBe('accepted')
  expect(second.outcome).toEqual({ kind: 'blocked', address: '169.254.169.254' })
  await dispatcher.close()
})

it('checks a cached answer, too: one that another rule let pass is no pass', async () => {
  const lookups: string[] = []
  const open = build()
  await attempt(open, attemptRequest(endpointAt('good')))
  const shut = build({
    allowedNetworks: [],
    lookup: (name, callback) => {
      lookups.push(name)
      queueMicrotask(() => callback(null, [{ address: '127.0.0.1', family: 4 }]))
    },
  })
  const { outcome } = await attempt(shut, attemptRequest(endpointAt('good')))
  expect(outcome).toEqual({ kind: 'blocked', address: '127.0.0.1' })
  expect(lookups).toEqual(['good.example.net'])
  await open.close()
  await shut.close()
})

it('200 dead names keep nobody waiting', async () => {
  const dispatcher = build({ dns: { servers: [server.address] } })
  const order: string[] = []
  const dead = Array.from({ length: 200 }, async (_, i) => {
    const { outcome } = await attempt(dispatcher, attemptRequest(endpointAt(`dead${i}`)))
    order.push('dead')
    return outcome
  })
  for (let i = 0; i < 20; i += 1) {
    // A name of its own each time, so that every one needs the name server.
    const { outcome } = await attempt(dispatcher, attemptRequest(endpointAt(`alive${i}`)))
    expect(outcome.kind).toBe('accepted')
    order.push('alive')
  }
  // By order, not by the clock: all 20 were through before the first dead one was given up.
  expect(order).toEqual(Array(20).fill('alive'))
  for (const outcome of await Promise.all(dead)) {
    expect(outcome).toEqual({ kind: 'unreachable', code: 'ETIMEOUT', at: 'dns' })
  }
  await dispatcher.close()
})

it('lets the process end: closing ends the questions under way', async () => {
  const dispatcher = build({ dns: { servers: [server.address] } })
  const pending = attempt(dispatcher, attemptRequest(endpointAt('silent')))
  while (!server.asked.includes('A silent.example.net')) {
    await new Promise((resolve) => setImmediate(resolve))
  }
  dispatcher.abortAll()
  expect((await pending).outcome).toEqual({ kind: 'unreachable', code: 'ABORTED' })
  await dispatcher.close()
})
