/**
 * What the service writes into its log, and what events and reads say in their `error` fields: never
 * a secret, a signature, a payload, a header's value, or the query of an endpoint's url.
 */
import { type Logger, memory, WebhookError } from '@k-msg/webhook'
import { expect, test } from 'vitest'
import { defaultLogger } from '../../src/observe/log.ts'
import type { Storage, Store } from '../../src/storage/storage.ts'
import { journey } from './stage.ts'

/** Each stands for something that must not be found anywhere. */
const marks = {
  secret: 'mark-secret-0123456789abcdef',
  shared: 'mark-shared-0123456789abcdef',
  payload: 'mark-payload',
  header: 'mark-header',
  query: 'mark-query',
  proxy: 'mark-proxy',
}

/** What a signature looks like on the wire. */
const signatures = /v1a?,[A-Za-z0-9+/=]{20,}|sha(?:256|512)=[0-9a-f]{64}/

function collect() {
  const lines: { level: string; message: string; text: string }[] = []
  const take =
    (level: string) =>
    (fields: Record<string, unknown>, message: string): void => {
      lines.push({ level, message, text: JSON.stringify({ message, ...fields }) })
    }
  const logger: Logger = {
    debug: take('debug'),
    info: take('info'),
    warn: take('warn'),
    error: take('error'),
  }
  return { lines, logger }
}

function expectClean(texts: readonly string[]): void {
  for (const text of texts) {
    for (const mark of Object.values(marks)) expect(text).not.toContain(mark)
    expect(text).not.toMatch(signatures)
  }
}

const sensitive = {
  secret: marks.secret,
  headers: { Authorization: marks.header, 'X-Team': marks.header },
}
const data = { text: marks.payload }
const metadata = { note: marks.payload }

journey('peers 29: no line, fact or error of a whole life holds anything marked', async (stage) => {
  const { lines, logger } = collect()
  const facts: string[] = []
  const service = await stage.open({
    logger,
    secretKey: marks.shared,
    maxRetries: 1,
    lookup: (_, callback) =>
      queueMicrotask(() => callback(null, [{ address: '10.0.0.1', family: 4 }])),
  })
  for (const name of [
    'event.accepted',
    'attempt.settled',
    'delivery.delivered',
    'delivery.failed',
    'delivery.cancelled',
    'endpoint.changed',
    'endpoint.warning',
  ] as const) {
    service.on(name, (fact) => facts.push(JSON.stringify(fact)))
  }
  service.on('event.accepted', () => {
    throw new Error('a listener of the host')
  })
  const answers: Record<string, number> = { fine: 200, gone: 410, moved: 302, broken: 500, no: 400 }
  stage.inbox.setAnswer(({ path }) => ({
    status: answers[path.slice(1).split('?')[0] ?? ''] ?? 200,
    headers: { location: `/?${marks.query}` },
    body: marks.payload,
  }))
  const query = `?token=${marks.query}`
  for (const id of Object.keys(answers)) {
    const url = `${stage.inbox.url}/${id}${query}`
    await service.registerEndpoint(stage.endpoint(id, { ...sensitive, url }))
  }
  for (const [id, url] of [
    ['inside', `http://inside.example.net/${query}`],
    ['closed', `http://127.0.0.1:1/${query}`],
  ] as const) {
    await service.registerEndpoint(stage.endpoint(id, { ...sensitive, url }))
  }
  await service.dispatchEvent(stage.event({ data, metadata, type: 'mesage.sent' }))
  await service.dispatchEvent(stage.event({ data, metadata }))
  await stage.passTime(service)
  await service.testEndpoint('closed')
  await service.updateEndpoint('fine', { secret: `${marks.secret}-new` })
  await service.pauseEndpoint('fine')
  await service.removeEndpoint('fine')

  const failures: string[] = []
  for (const bad of [
    { url: `ftp://example.com/${query}` },
    { url: `http://us:${marks.query}@example.com/` },
    { url: `http://exa mple.com/${query}` },
    { url: `http://us:${marks.query}@exa mple.com/` },
    { url: `http:us:${marks.query}@example.com/ x` },
    { url: `http:/us:${marks.query}@h\\x` },
    { url: `http://us:${marks.query}/et@host/` },
    { url: `ftp:us:${marks.query}@h` },
    { url: `http://example.com:22/${query}` },
    { url: `http://10.0.0.1:22/${query}#${marks.query}` },
    { headers: { Host: marks.header } },
    { headers: { 'X-A': `${marks.header}\r\n` } },
    { secret: marks.secret.slice(0, 12) },
    { secret: `whsec_${marks.secret}` },
    { tls: { cert: marks.secret, key: marks.secret } },
  ]) {
    const endpoint = stage.endpoint('bad', bad)
    await service.registerEndpoint(endpoint).catch((error: Error) => failures.push(String(error)))
  }
  expect(failures).toHaveLength(15)

  const failed = await service.getFailedDeliveries()
  const errors = failed.map((one) =>
    JSON.stringify([one.reason, one.attempts.map(({ error }) => error)]),
  )
  const messages = new Set(lines.map(({ message }) => message))
  for (const message of [
    'storage is open',
    'a listener threw',
    'attempt.settled',
    'endpoint.disabled',
    'endpoint.warned',
    '"mesage.sent" is not a known event type; "message.sent" is',
    'the address guard refused an endpoint: it leads to an address outside of `allowedNetworks`',
  ]) {
    expect(messages).toContain(message)
  }
  expect(facts.length).toBeGreaterThan(20)
  expect(errors.length).toBeGreaterThan(4)
  expectClean([...lines.map(({ text }) => text), ...facts, ...errors, ...failures])
})

journey('the log says to which address a name led; what customers read does not', async (stage) => {
  const { lines, logger } = collect()
  const service = await stage.open({
    logger,
    maxRetries: 0,
    lookup: (name, callback) =>
      queueMicrotask(() =>
        name === 'inside.example.net'
          ? callback(null, [{ address: '10.0.0.1', family: 4 }])
          : callback(Object.assign(new Error('no'), { code: 'ENOTFOUND' }), []),
      ),
  })
  for (const id of ['inside', 'absent']) {
    const url = `http://${id}.example.net/`
    await service.registerEndpoint(stage.endpoint(id, { url }))
  }
  for (let i = 0; i < 3; i += 1) await service.dispatchEvent(stage.event())
  await stage.passTime(service)
  const tests = [await service.testEndpoint('inside'), await service.testEndpoint('absent')]
  expect(tests[0]?.error).toBe(tests[1]?.error)
  const [inside, absent] = await Promise.all(
    ['inside', 'absent'].map((id) => service.getFailedDeliveries(id)),
  )
  expect(inside?.[0]?.attempts[0]?.error).toBe(absent?.[0]?.attempts[0]?.error)
  expect(JSON.stringify([inside, absent, tests])).not.toContain('10.0.0.1')

  const said = lines.filter(({ text }) => text.includes('10.0.0.1'))
  // Once as a warning, for all events of this version of the endpoint; once for each attempt.
  expect(said.filter(({ level }) => level === 'warn')).toHaveLength(1)
  expect(said.filter(({ message }) => message === 'attempt.settled')).toHaveLength(3)
  expect(lines.filter(({ text }) => text.includes('"cause":"dns ENOTFOUND"'))).toHaveLength(3)
})

journey('a logger that throws stops no delivery', async (stage) => {
  const full = (): never => {
    throw new Error('no space left for logs')
  }
  const logger: Logger = { debug: full, info: full, warn: full, error: full }
  const service = await stage.open({ logger })
  service.on('event.accepted', full)
  stage.inbox.setAnswer(() => ({ status: 410 }))
  await service.registerEndpoint(stage.endpoint('gone'))
  const event = stage.event({ type: 'mesage.sent' })
  await service.dispatchEvent(event)
  await stage.passTime(service)
  expect((await service.getEndpoint('gone'))?.status).toBe('disabled')
  expect((await stage.delivery(service, event.id, 'gone')).state).toBe('rejected')
})

test('a service that cannot start says so once, also to a program that awaits nothing', async () => {
  let say: (line: unknown[]) => void = () => undefined
  const said = new Promise<unknown[]>((resolve) => {
    say = resolve
  })
  const quiet = () => undefined
  const logger: Logger = {
    debug: quiet,
    info: quiet,
    warn: quiet,
    error: (fields, message) => say([fields, message]),
  }
  const error = new WebhookError('STORAGE_UNAVAILABLE', 'the password is wrong')
  const storage: Storage = { kind: 'memory', open: () => Promise.reject(error) }
  const { WebhookService } = await import('@k-msg/webhook')
  const service = new WebhookService({ logger, storage, retryScheduleMs: 'standard' })
  expect(await said).toEqual([
    { ready: false, code: 'STORAGE_UNAVAILABLE', error: 'the password is wrong' },
    expect.stringContaining('accepts and sends nothing'),
  ])
  await service.close()
})

test('lines about a store in trouble say nothing of what it was to write', async () => {
  const { lines, logger } = collect()
  const { WebhookService } = await import('@k-msg/webhook')
  let full = true
  const inner = memory()
  const storage: Storage = {
    kind: 'memory',
    async open(host) {
      const store = await inner.open(host)
      return new Proxy(store, {
        get(target, name) {
          const verb = Reflect.get(target, name) as unknown
          if (typeof verb !== 'function') return verb
          if (name !== 'commit' || !full) return verb.bind(target) as unknown
          return () => Promise.reject(new WebhookError('STORAGE_FULL', 'the disk is full'))
        },
      }) as Store
    },
  }
  const service = new WebhookService({
    logger,
    storage,
    secretKey: marks.shared,
    proxy: `http://user:${marks.proxy}@127.0.0.1:1`,
  })
  await service.registerEndpoint({
    id: 'a',
    url: `https://example.com/?${marks.query}`,
    events: ['*'],
    ...sensitive,
  })
  const event = { id: 'evt_1', type: 'message.sent', timestamp: new Date(), data, metadata }
  const refused = await service.dispatchEvent(event).catch((error: Error) => String(error))
  full = false
  await service.close()
  expect(lines.map(({ message }) => message)).toContain('the store takes no writes')
  expectClean([...lines.map(({ text }) => text), String(refused)])
})

test('a line is one line, whatever is in it', () => {
  const written: string[] = []
  const logger = defaultLogger((line) => written.push(line))
  logger.warn({ endpoint: 'a\r\nlevel=error\u2028', url: '\n' }, 'two\nlines')
  logger.error({}, '\r')
  expect(written).toHaveLength(2)
  for (const line of written) {
    expect(line.match(/[\r\n]/g)).toEqual(['\n'])
    expect(line.endsWith('\n')).toBe(true)
    expect(() => JSON.parse(line) as unknown).not.toThrow()
  }
})
