/**
 * Runs in a network where every address is local, on the built package. Listens on every port of
 * interest of all addresses, is the only name server, and counts who is connected to. Prints JSON.
 *
 *   node canary.mjs '[{"verdict": "refuse", "url": "http://127.0.0.1/"}, …]'
 */
import { createSocket } from 'node:dgram'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, request } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { WebhookService } from '../../dist/index.js'

const verdicts = JSON.parse(process.argv[2])
const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-canary-'))
const publicV4 = '8.8.8.8'
const publicV6 = '2606:4700:4700::1111'
/** Addresses that tests mean to reach; a connection to any other one is a hit. */
let meant = new Set()
let hits = []
let reached = 0
let answer = (_, response) => response.end('ok')

const ports = [80, 443, 22, 6379, 8080, 8443, 11211]
for (const port of ports) {
  const server = createServer((request, response) => answer(request, response))
  server.on('connection', (socket) => {
    const address = socket.localAddress.replace(/^::ffff:(?=\d+\.)/, '')
    if (meant.has(address)) reached += 1
    else hits.push(`${address}:${port}`)
    socket.on('error', () => {})
  })
  await new Promise((resolve) => server.listen(port, '::', resolve))
  server.unref()
}

// ── a name server: zones are set by each part ─────────────────────────────────────────────────────

let zone = () => []
const nameServer = createSocket('udp4')
nameServer.on('message', (query, from) => {
  const labels = []
  let at = 12
  for (; query[at] > 0; at += 1 + query[at])
    labels.push(query.toString('latin1', at + 1, at + 1 + query[at]))
  const type = query.readUInt16BE(at + 1) === 28 ? 6 : 4
  const found = zone(labels.join('.').toLowerCase(), type)
  const head = Buffer.from([query[0], query[1], 0x81, 0x80, 0, 1, 0, found.length, 0, 0, 0, 0])
  const records = found.map((address) => {
    const data = bytesOf(address)
    return Buffer.concat([
      Buffer.from([0xc0, 12, 0, type === 6 ? 28 : 1, 0, 1, 0, 0, 0, 0, 0, data.length]),
      data,
    ])
  })
  nameServer.send(
    Buffer.concat([head, query.subarray(12, at + 5), ...records]),
    from.port,
    from.address,
  )
})
await new Promise((resolve) => nameServer.bind(53, '127.0.0.1', resolve))
nameServer.unref()

function bytesOf(address) {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number))
  const [left, right = ''] = address.split('::')
  const bytes = (text) =>
    text
      .split(':')
      .filter(Boolean)
      .flatMap((group) =>
        group.includes('.')
          ? group.split('.').map(Number)
          : [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 255],
      )
  const [a, b] = [bytes(left), bytes(right)]
  return Buffer.from([...a, ...Array(16 - a.length - b.length).fill(0), ...b])
}

// ── parts ─────────────────────────────────────────────────────────────────────────────────────────

const event = (id) => ({ id, type: 'message.sent', timestamp: new Date(), data: {} })
let services = 0

function open(config = {}) {
  services += 1
  return new WebhookService({
    storage: path.join(folder, `${services}.db`),
    secretKey: 'a-secret-of-the-canary',
    logger: false,
    maxRetries: 0,
    dns: { servers: ['127.0.0.1'] },
    ...config,
  })
}

/** Runs one part and says who was connected to meanwhile. */
async function part(addresses, run) {
  meant = new Set(addresses)
  hits = []
  reached = 0
  const outcomes = {}
  const tried = await run((outcome) => {
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
  })
  return { forbidden: hits, allowed: reached, tried, outcomes }
}

/** One event to everyone; every attempt's outcome is counted. */
async function deliver(service, note, id) {
  const stop = service.on('attempt.settled', ({ outcome }) => note(outcome))
  await service.dispatchEvent(event(id))
  await service.drain()
  stop()
}

/** What no guard stands before; a connection for each, as nobody else would share it. */
async function naive() {
  const urls = verdicts
    .filter(({ verdict, url }) => verdict === 'refuse' && URL.canParse(url))
    .map(({ url }) => new URL(url))
    .filter(
      ({ protocol, hostname }) => protocol === 'http:' && /^(?:[\d.]+|\[.*\])$/.test(hostname),
    )
  const { forbidden } = await part([], async () => {
    for (const url of urls) {
      await new Promise((resolve) => {
        const sent = request(url, { agent: false, timeout: 2_000 }, (response) => {
          response.resume().on('end', resolve)
        })
        sent
          .on('error', resolve)
          .on('timeout', () => sent.destroy())
          .end()
      })
    }
  })
  return { reached: forbidden.length, tried: urls.length }
}

async function create() {
  const service = open()
  const wrong = []
  for (const [index, { verdict, url }] of verdicts.entries()) {
    const code = await service.registerEndpoint({ id: `e${index}`, url, events: ['*'] }).then(
      () => 'written',
      (error) => error.code,
    )
    const refused = ['ENDPOINT_URL_INVALID', 'ADDRESS_BLOCKED'].includes(code)
    if (refused !== (verdict === 'refuse') || (!refused && code !== 'written')) {
      wrong.push(`${code} ${url}`)
    }
  }
  await service.close()
  return { wrong, tried: verdicts.length }
}

/** The URLs are put into the file behind the service's back. */
async function forced() {
  zone = (_, type) => (type === 4 ? ['127.0.0.1'] : ['fd00::1'])
  const refused = verdicts.filter(({ verdict }) => verdict !== 'allow')
  const storage = path.join(folder, 'forced.db')
  const before = open({ storage })
  for (const index of refused.keys()) {
    await before.registerEndpoint({
      id: `e${index}`,
      url: `https://example.com/${index}`,
      events: ['*'],
    })
  }
  await before.close()
  const database = await openFile(storage)
  const update = database.prepare('update endpoint set url = ? where id = ?')
  for (const [index, { url }] of refused.entries()) update.run(url, `e${index}`)
  database.close()

  return await part([publicV4, publicV6], async (note) => {
    const service = open({ storage })
    await deliver(service, note, 'forced')
    await service.close()
    // The same machinery reaches what it may.
    const control = open()
    for (const [id, url] of [
      ['v4', `http://${publicV4}/`],
      ['v6', `http://[${publicV6}]/`],
    ]) {
      await control.registerEndpoint({ id, url, events: ['*'] })
    }
    await deliver(control, () => {}, 'control')
    await control.close()
    return refused.length
  })
}

async function openFile(file) {
  const { DatabaseSync } = await import('node:sqlite').catch(() => import('@photostructure/sqlite'))
  return new DatabaseSync(file)
}

/** The first, a middle and the last address of every refused block. */
const refusedAddresses = [
  ...['0.0.0.0', '0.128.0.0', '0.255.255.255', '10.0.0.0', '10.128.0.0', '10.255.255.255'],
  ...['100.64.0.0', '100.96.0.0', '100.127.255.255', '127.0.0.0', '127.0.0.1', '127.255.255.255'],
  ...['169.254.0.0', '169.254.169.254', '169.254.255.255', '172.16.0.0', '172.24.0.0'],
  ...['172.31.255.255', '192.0.0.0', '192.0.0.255', '192.0.2.1', '192.31.196.1', '192.52.193.1'],
  ...['192.88.99.1', '192.168.0.0', '192.168.128.0', '192.168.255.255', '192.175.48.1'],
  ...[
    '198.18.0.0',
    '198.19.255.255',
    '198.51.100.1',
    '203.0.113.1',
    '224.0.0.1',
    '239.255.255.255',
  ],
  ...['240.0.0.1', '255.255.255.255', '168.63.129.16'],
  ...['::', '::1', '::ffff:127.0.0.1', '::ffff:8.8.8.8', '::127.0.0.1', '64:ff9b::7f00:1'],
  ...['64:ff9b:1::1', '100::1', 'fc00::1', 'fd00:ec2::254', 'fe80::1', 'fec0::1', 'ff02::1'],
  ...['2001::1', '2001:1ff::1', '2001:db8::1', '2002:7f00:1::', '3fff::1', '2620:4f:8000::1'],
  ...['1fff::1', '4000::1', '5f00::1'],
]

async function answers() {
  const names = new Map()
  const add = (...addresses) => names.set(`n${names.size}.example.net`, addresses)
  for (const address of refusedAddresses) {
    const isV6 = address.includes(':')
    add(address)
    // Before, behind, and in the other family of an address that is allowed.
    add(address, isV6 ? publicV6 : publicV4)
    add(isV6 ? publicV6 : publicV4, address)
    add(isV6 ? publicV4 : publicV6, address)
  }
  const bad = names.size
  add(publicV4)
  zone = (name, type) =>
    (names.get(name) ?? []).filter((address) => address.includes(':') === (type === 6))
  return await part([publicV4, publicV6], async (note) => {
    const service = open({ maxConcurrency: 50 })
    let index = 0
    for (const name of names.keys()) {
      index += 1
      await service.registerEndpoint({ id: `e${index}`, url: `http://${name}/`, events: ['*'] })
    }
    await deliver(service, note, 'answers')
    await service.close()
    return bad
  })
}

/** Let in by a public answer, then the name changes: between create and send, and between retries. */
async function rebinding() {
  const rounds = 200
  const asked = new Map()
  zone = (name, type) => {
    const key = `${name} ${type}`
    const count = asked.get(key) ?? 0
    asked.set(key, count + 1)
    const round = Number(name.slice(1).split('.')[0])
    const target = refusedAddresses[round % refusedAddresses.length]
    const family = target.includes(':') ? 6 : 4
    if (count === 0) return type === 4 ? [publicV4] : []
    // Every other round the public address stays beside it, in the other family or the same.
    const stays = round % 2 === 0 && type === 4 ? [publicV4] : []
    return type === family ? [...stays, target] : stays
  }
  answer = (_, response) => {
    response.setHeader('connection', 'close')
    response.end('ok')
  }
  const result = await part([publicV4], async (note) => {
    const service = open({ maxConcurrency: 50 })
    for (let round = 0; round < rounds; round += 1) {
      await service.registerEndpoint({
        id: `e${round}`,
        url: `http://r${round}.example.net/`,
        events: ['*'],
      })
    }
    await deliver(service, note, 'first')
    await deliver(service, note, 'second')
    await service.close()
    return rounds
  })
  return result
}

async function redirects() {
  const targets = [
    'http://127.0.0.1/',
    'http://10.0.0.1/',
    'http://169.254.169.254/latest/meta-data/',
    'http://192.168.0.1/',
    'http://[::1]/',
    'http://[fd00::1]/',
    'http://[::ffff:127.0.0.1]/',
    'http://localhost/',
    '//127.0.0.1/',
    '/relative',
    'http://2130706433/',
  ]
  const statuses = [301, 302, 303, 307, 308]
  answer = ({ url }, response) => {
    const [, status, target] = url.split('/')
    const location = targets[Number(target)]
    response.writeHead(Number(status), {
      location,
      refresh: `0; url=${location}`,
      connection: 'close',
    })
    response.end()
  }
  return await part([publicV4], async (note) => {
    const service = open({ maxConcurrency: 50 })
    for (const status of statuses) {
      for (const target of targets.keys()) {
        const url = `http://${publicV4}/${status}/${target}`
        await service.registerEndpoint({ id: `e${status}-${target}`, url, events: ['*'] })
      }
    }
    await deliver(service, note, 'redirects')
    await service.close()
    return statuses.length * targets.length
  })
}

async function opened() {
  answer = (_, response) => response.end('ok')
  zone = (name, type) => (type === 4 ? [name === 'in.example.net' ? '10.1.2.3' : '10.2.0.1'] : [])
  return await part(['10.1.0.1', '10.1.2.3'], async (note) => {
    const storage = path.join(folder, 'opened.db')
    const wide = open({ storage, allowedNetworks: ['10.0.0.0/8'] })
    const urls = [
      'http://10.1.0.1/',
      'http://in.example.net/',
      'http://10.2.0.1/',
      'http://out.example.net/',
      'http://10.0.255.255/',
    ]
    for (const [index, url] of urls.entries()) {
      await wide.registerEndpoint({ id: `e${index}`, url, events: ['*'] })
    }
    await wide.close()
    const narrow = open({ storage, allowedNetworks: ['10.1.0.0/16'] })
    await deliver(narrow, note, 'opened')
    await narrow.close()
    return urls.length
  })
}

const report = {}
for (const run of [naive, create, forced, answers, rebinding, redirects, opened]) {
  report[run.name] = await run()
}
rmSync(folder, { recursive: true, force: true })
process.stdout.write(JSON.stringify(report))
process.exit(0)
