/** Fault I12: whoever reads the data file, its log, a backup or the log lines finds no secret. */
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import {
  auditFile,
  createEncryptionKey,
  type Logger,
  memory,
  type WebhookConfig,
  WebhookService,
} from '@k-msg/webhook'
import { afterEach, describe, expect, it } from 'vitest'
import { type Database, loadDriver } from '../../src/storage/sqlite/driver.ts'
import { verifies } from './receiver-keys.ts'
import { fileJourney, journey, type Stage } from './stage.ts'

const [k1, k2] = [createEncryptionKey('k1'), createEncryptionKey('k2')]
const [first, second] = [1, 2].map(() => `whsec_${randomBytes(32).toString('base64')}`) as [
  string,
  string,
]
const token = `Bearer ${randomBytes(24).toString('hex')}`
const variable = 'KMSG_WEBHOOK_ENCRYPTION_KEYS'

/** A secret as text, in base64, and as the bytes that sign. */
function formsOf(secret: string): Buffer[] {
  const text = secret.replace(/^wh(sec|sk)_|^Bearer /, '')
  const forms = [
    Buffer.from(text),
    Buffer.from(Buffer.from(secret).toString('base64').slice(0, -4)),
  ]
  return secret.startsWith('wh') ? [...forms, Buffer.from(text, 'base64')] : forms
}

/** `file: secret n` for every form of a secret in any file of the stage. */
function found(stage: Stage, ...secrets: string[]): string[] {
  return readdirSync(stage.folder).flatMap((file) => {
    const content = readFileSync(path.join(stage.folder, file))
    return secrets.flatMap((secret, n) =>
      formsOf(secret).some((form) => content.includes(form)) ? [`${file}: secret ${n + 1}`] : [],
    )
  })
}

/**
 * What is found once the store's thread has looked after its log. It does when it rests, which is
 * soon and not at a moment that can be named: each question gives it one.
 */
async function foundAtRest(stage: Stage, service: WebhookService, ...secrets: string[]) {
  for (let i = 0; i < 1_000 && found(stage, ...secrets).length > 0; i += 1) await service.health()
  return found(stage, ...secrets)
}

function keepingLogger(): Logger & { lines: string[]; heard(part: string): Promise<void> } {
  const lines: string[] = []
  let waiting: { part: string; resolve: () => void }[] = []
  const keep = (fields: Record<string, unknown>, message: string): void => {
    const line = JSON.stringify({ message, ...fields })
    lines.push(line)
    waiting = waiting.filter(({ part, resolve }) => {
      if (line.includes(part)) resolve()
      return !line.includes(part)
    })
  }
  return {
    ...{ lines, debug: keep, info: keep, warn: keep, error: keep },
    heard: (part) =>
      new Promise((resolve) => {
        if (lines.some((line) => line.includes(part))) resolve()
        else waiting.push({ part, resolve })
      }),
  }
}

/** With the endpoints' rows moved about by everything that moves them. */
async function busyLife(stage: Stage, service: WebhookService): Promise<void> {
  stage.inbox.setAnswer(({ path: at }) =>
    at === '/busy' ? { status: 503, headers: { 'retry-after': '60' } } : { status: 301 },
  )
  for (const id of ['shop', 'busy', 'moved']) {
    await service.registerEndpoint(
      stage.endpoint(id, { secret: first, headers: { 'X-Api-Key': token } }),
    )
  }
  for (let i = 0; i < 5; i += 1) await service.dispatchEvent(stage.event())
  await service.runDue()
  for (let i = 0; i < 20; i += 1) {
    await service.registerEndpoint(stage.endpoint(`more-${i}`, { description: 'x'.repeat(i * 90) }))
    await service.updateEndpoint('shop', { description: 'y'.repeat((i * 331) % 1_900) })
    await service.pauseEndpoint('busy')
    await service.resumeEndpoint('busy')
  }
}

afterEach(() => {
  delete process.env[variable]
})

describe('with a key', () => {
  fileJourney('neither file, log, backup nor log line holds a secret', async (stage) => {
    const logger = keepingLogger()
    const service = await stage.open({ encryptionKeys: [k1], logger })
    await busyLife(stage, service)
    await service.registerEndpoint(stage.endpoint('signed', { secretType: 'ed25519' }))
    const ownKey = service.registry.find('signed')?.secrets[0]?.secret ?? ''
    expect(ownKey).toMatch(/^whsk_/)
    const { secret: created = '' } = await service.rotateSecret('shop')
    await service.rotateSecret('busy', { secret: second })
    await service.backup(path.join(stage.folder, 'backup.db'))
    expect(verifies(stage.at('moved')[0], first)).toBe(true)

    const secrets = [first, second, created, ownKey, token]
    expect(readdirSync(stage.folder)).toEqual(
      expect.arrayContaining(['webhooks.db', 'webhooks.db-wal', 'backup.db']),
    )
    expect(found(stage, ...secrets)).toEqual([])
    const lines = logger.lines.join('\n')
    expect(lines).toContain('attempt.settled')
    for (const secret of secrets) expect(lines).not.toContain(secret.replace(/^\w+[_ ]/, ''))
    // What is encrypted is bound to its endpoint and can be read back.
    await service.close()
    const again = await stage.open({ encryptionKeys: [k1] })
    expect(again.registry.find('busy')?.secrets.map((one) => one.secret)).toEqual([second, first])
    expect(again.registry.find('busy')?.headers).toEqual({ 'X-Api-Key': token })
  })

  fileJourney('the search would find one: without a key it does', async (stage) => {
    const service = await stage.open()
    await busyLife(stage, service)
    await service.backup(path.join(stage.folder, 'backup.db'))
    expect(found(stage, first, token)).toEqual(
      expect.arrayContaining(['backup.db: secret 1', 'backup.db: secret 2']),
    )
  })
})

describe('a secret that is over', () => {
  fileJourney('leaves no trace in the files, though they are in the clear', async (stage) => {
    const service = await stage.open({ rotationOverlapMs: 3_600_000 })
    await busyLife(stage, service)
    for (const id of ['shop', 'busy', 'moved']) {
      await service.updateEndpoint(id, { secret: second, headers: {} })
    }
    expect(await foundAtRest(stage, service, token)).toEqual([])
    expect(found(stage, first)).not.toEqual([])
    stage.clock.advance(3_600_000)
    expect(await foundAtRest(stage, service, first)).toEqual([])
    expect(found(stage, second)).not.toEqual([])
    expect((await service.getEndpointHistory('moved')).at(-1)).toMatchObject({
      what: 'rotation ended',
      reason: 'overlap ended',
      fields: ['secrets'],
    })

    for (const id of ['shop', 'busy', 'moved']) await service.removeEndpoint(id)
    expect(await foundAtRest(stage, service, first, second, token)).toEqual([])
  })

  fileJourney('is removed at the next start when the service was down', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { secret: first }))
    await service.rotateSecret('shop', { secret: second, overlapMs: 1_000 })
    await service.close()
    expect(found(stage, first)).not.toEqual([])
    stage.clock.advance(1_000)
    const later = await stage.open()
    await later.runDue()
    expect(await foundAtRest(stage, later, first)).toEqual([])
    expect(later.registry.find('shop')?.secrets.map((one) => one.secret)).toEqual([second])
  })
})

describe('the ring', () => {
  fileJourney('takes over what is in the clear, then lets the older key retire', async (stage) => {
    const open = (config: WebhookConfig) => stage.open({ secretKey: undefined, ...config })
    let service = await open({})
    for (let i = 0; i < 25; i += 1) {
      await service.registerEndpoint(
        stage.endpoint(`e-${i}`, { secret: first, headers: { 'X-Api-Key': token } }),
      )
    }
    expect((await service.health()).encryption).toBeNull()
    expect((await service.audit()).encryption).toEqual({ '': 25 })

    for (const [keys, id] of [
      [[k1], 'k1'],
      [[k2, k1], 'k2'],
    ] as const) {
      await service.close()
      const logger = keepingLogger()
      service = await open({ encryptionKeys: keys, logger })
      await logger.heard('is encrypted with the newest key')
      expect((await service.health()).encryption).toEqual({ key: id, endpointsLeft: 0 })
      expect((await auditFile(stage.dataFile)).encryption).toEqual({ [id]: 25 })
      expect(await foundAtRest(stage, service, first, token)).toEqual([])
      const { version, signingKeys } = (await service.getEndpoint('e-7')) ?? {}
      expect([version, signingKeys?.length]).toEqual([1, 1])
    }
    await service.close()
    service = await open({ encryptionKeys: [k2] })
    await service.dispatchEvent(stage.event())
    await service.runDue()
    expect(stage.at('e-24').map((one) => verifies(one, first))).toEqual([true])
    expect(stage.at('e-24')[0]?.headers['x-api-key']).toBe(token)
  })

  journey('re-encrypts while endpoints change, and loses neither', async (stage) => {
    let service = await stage.open()
    for (let i = 0; i < 40; i += 1) await service.registerEndpoint(stage.endpoint(`e-${i}`))
    await service.close()
    const logger = keepingLogger()
    service = await stage.open({ encryptionKeys: [k1], logger })
    await Promise.all(
      [
        ...Array.from({ length: 40 }, (_, i) =>
          service.updateEndpoint(`e-${i}`, { name: `name ${i}`, secret: second }),
        ),
        service.removeEndpoint('e-39'),
      ].map((one) => one.catch(() => {})),
    )
    await logger.heard('is encrypted with the newest key')
    await service.close()
    service = await stage.open({ encryptionKeys: [k1] })
    const endpoints = await service.listEndpoints()
    expect(endpoints).toHaveLength(39)
    for (const { id, name } of endpoints) expect(name).toBe(`name ${id.slice(2)}`)
    expect((await service.audit()).encryption).toEqual({ k1: 39 })
  })

  journey('comes from the environment; the option wins', async (stage) => {
    process.env[variable] = ` ${k2} , ${k1},`
    let service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { secret: first }))
    expect((await service.audit()).encryption).toEqual({ k2: 1 })
    await service.close()
    process.env[variable] = 'not a key'
    service = await stage.open({ encryptionKeys: [k2] })
    expect(service.registry.find('shop')?.secrets[0]?.secret).toBe(first)
    expect(() => new WebhookService()).toThrow(
      expect.objectContaining({
        code: 'ENCRYPTION_KEY_INVALID',
        message: expect.stringContaining(variable) as string,
      }),
    )
  })
})

describe('a key that does not fit', () => {
  const wrong = createEncryptionKey('k1')
  fileJourney('fails closed: nothing is sent, nothing overwritten', async (stage) => {
    let service = await stage.open({ encryptionKeys: [k1] })
    await service.registerEndpoint(stage.endpoint('shop', { secret: first }))
    await service.pauseEndpoint('shop')
    await service.dispatchEvent(stage.event())
    await service.close()
    const rows = () => readRows(stage.dataFile)
    const before = rows()
    for (const [config, code, sentence] of [
      [{}, 'ENCRYPTION_KEY_MISSING', /"k1".*none is given.*KMSG_WEBHOOK_ENCRYPTION_KEYS/],
      [{ encryptionKeys: [k2] }, 'ENCRYPTION_KEY_MISSING', /"k1".*given are k2/],
      [{ encryptionKeys: [wrong] }, 'ENCRYPTION_KEY_WRONG', /"k1"/],
      [{ encryptionKeys: [k2, wrong] }, 'ENCRYPTION_KEY_WRONG', /"k1"/],
    ] as const) {
      const refused = new WebhookService({
        storage: stage.dataFile,
        logger: false,
        allowedNetworks: ['127.0.0.0/8'],
        ...config,
      })
      await expect(refused.ready()).rejects.toMatchObject({
        code,
        message: expect.stringMatching(sentence) as string,
      })
      await expect(refused.resumeEndpoint('shop')).rejects.toMatchObject({ code })
      await expect(
        refused.registerEndpoint(stage.endpoint('shop', { secret: second })),
      ).rejects.toMatchObject({ code })
      await refused.close()
      expect(rows()).toEqual(before)
    }
    expect(stage.inbox.received).toHaveLength(0)
    service = await stage.open({ encryptionKeys: [k2, k1] })
    await service.resumeEndpoint('shop')
    await service.drain()
    expect(verifies(stage.at('shop')[0], first)).toBe(true)
  })

  fileJourney('is what a secret of another row looks like', async (stage) => {
    let service = await stage.open({ encryptionKeys: [k1] })
    await service.registerEndpoint(stage.endpoint('mine', { secret: first }))
    await service.registerEndpoint(stage.endpoint('yours', { secret: second }))
    await service.close()
    const own = readRows(stage.dataFile)
    // So that requests to me would be signed with what you verify.
    change(
      stage.dataFile,
      "update endpoint set secrets = (select secrets from endpoint where id = 'yours') where id = 'mine'",
    )
    const refused = new WebhookService({
      storage: stage.dataFile,
      logger: false,
      encryptionKeys: [k1],
    })
    await expect(refused.ready()).rejects.toMatchObject({ code: 'ENCRYPTION_KEY_WRONG' })
    await refused.close()
    const [mine] = own
    change(stage.dataFile, `update endpoint set secrets = '${mine?.secrets}' where id = 'mine'`)
    // The other way round: the row around the secret, so that you are sent what I would verify.
    const url = own[1]?.url
    change(
      stage.dataFile,
      `update endpoint set url = 'https://elsewhere.example/' where id = 'yours'`,
    )
    const moved = new WebhookService({
      storage: stage.dataFile,
      logger: false,
      encryptionKeys: [k1],
    })
    // It is logged; of the row it says the endpoint, and not the URL, which may hold a token.
    await expect(moved.ready()).rejects.toMatchObject({
      code: 'ENCRYPTION_KEY_WRONG',
      message: expect.stringMatching(/^(?!.*elsewhere).* of endpoint "yours", but/) as string,
    })
    await moved.close()
    change(stage.dataFile, `update endpoint set url = '${url}' where id = 'yours'`)
    service = await stage.open({ encryptionKeys: [k1] })
    expect(service.registry.find('mine')?.secrets[0]?.secret).toBe(first)
  })
})

describe('without a key', () => {
  journey('the service says at its start that secrets lie in the clear, once', async (stage) => {
    const logger = keepingLogger()
    const service = await stage.open({ logger })
    await service.registerEndpoint(stage.endpoint('shop'))
    const said = logger.lines.filter((line) => line.includes('stored unencrypted'))
    expect(said).toHaveLength(1)
    expect(said[0]).toContain(variable)
    await service.close()
    const quiet = keepingLogger()
    await stage.open({ logger: quiet, encryptionKeys: [k1] })
    expect(quiet.lines.filter((line) => line.includes('stored unencrypted'))).toEqual([])
  })

  it('has nothing to say when nothing is stored', async () => {
    const logger = keepingLogger()
    await using service = new WebhookService({ storage: memory(), logger })
    await service.ready()
    expect(logger.lines.filter((line) => line.includes('stored unencrypted'))).toEqual([])
  })
})

interface Row {
  readonly url: string
  readonly id: string
  readonly secrets: string
  readonly headers: string
}

/** With the SQLite that the service uses: two copies of it in one process break each other's locks. */
function withFile<Result>(file: string, work: (database: Database) => Result): Result {
  const database = loadDriver([import.meta.url]).open(file)
  try {
    return work(database)
  } finally {
    database.close()
  }
}

function readRows(file: string): Row[] {
  return withFile(
    file,
    (database) => database.prepare('select * from endpoint order by id').all() as Row[],
  )
}

function change(file: string, sql: string): void {
  withFile(file, (database) => database.exec(sql))
}
