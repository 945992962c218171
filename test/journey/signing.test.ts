import { createHmac } from 'node:crypto'
import {
  SecurityManager,
  type WebhookConfig,
  WebhookRegistry,
  WebhookService,
} from '@k-msg/webhook'
import { describe, expect, it } from 'vitest'
import { bodyMac, verifies } from './receiver-keys.ts'
import { journey, type Stage, secret } from './stage.ts'

const [oldSecret, newSecret] = [
  'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD',
  'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx',
]
const hourMs = 3_600_000

/** Sends one event; gives what arrived for it. */
async function next(stage: Stage, service: WebhookService, id = 'shop') {
  await service.dispatchEvent(stage.event())
  await service.runDue()
  return stage.at(id).at(-1)
}

describe('schemes', () => {
  journey('header, prefix and algorithm reach the wire', async (stage) => {
    const service = await stage.open({
      signature: { algorithm: 'sha512', header: 'X-Hub-Signature-512', prefix: 'v0:' },
    })
    await service.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
    const request = await next(stage, service)
    expect(request?.headers['x-hub-signature-512']).toBe(
      `v0:${bodyMac(request?.body ?? '', oldSecret, 'sha512')}`,
    )
    expect(request?.headers['x-webhook-signature']).toBeUndefined()
    // Standard Webhooks knows SHA-256 only.
    expect(verifies(request, oldSecret)).toBe(true)
    await expect(
      service.updateEndpoint('shop', { headers: { 'x-hub-signature-512': 'mine' } }),
    ).rejects.toMatchObject({ code: 'ENDPOINT_INVALID' })
  })

  journey('one alone, or those of 0.30, or those of one endpoint', async (stage) => {
    const service = await stage.open({ signature: { schemes: ['timestamped-body'] } })
    await service.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
    await service.registerEndpoint(
      stage.endpoint('modern', { secret: oldSecret, signatureSchemes: ['standard'] }),
    )
    const request = await next(stage, service)
    const { headers = {}, body = '' } = request ?? {}
    const mac = createHmac('sha256', oldSecret).update(`${headers['x-webhook-timestamp']}.${body}`)
    expect(headers['x-webhook-signature']).toBe(`sha256=${mac.digest('hex')}`)
    expect(headers['webhook-signature']).toBeUndefined()
    const modern = stage.at('modern').at(-1)
    expect(verifies(modern, oldSecret)).toBe(true)
    expect(modern?.headers['x-webhook-signature']).toBeUndefined()

    const changed = await service.updateEndpoint('modern', { signatureSchemes: ['body'] })
    expect(changed).toMatchObject({ signatureSchemes: ['body'] })
    await service.close()
    // The choice outlives a restart.
    const again = await stage.open({ signature: { schemes: ['timestamped-body'] } })
    const later = await next(stage, again, 'modern')
    expect(later?.headers['x-webhook-signature']).toBe(
      `sha256=${bodyMac(later?.body ?? '', oldSecret)}`,
    )
    expect(later?.headers['webhook-signature']).toBeUndefined()
    await expect(
      again.updateEndpoint('modern', { signatureSchemes: ['body', 'timestamped-body'] }),
    ).rejects.toMatchObject({ code: 'OPTION_INVALID' })
  })

  it.each([
    [{ signature: { schemes: ['body', 'timestamped-body'] } }, 'OPTION_INVALID', /one header/],
    [{ signature: { schemes: [] } }, 'OPTION_INVALID', /enableSecurity/],
    [{ signature: { algorithm: 'sha1' } }, 'ALGORITHM_UNSUPPORTED', /Collisions/],
    [{ signature: { algoritm: 'sha256' } }, 'OPTION_UNKNOWN', /did you mean `algorithm`/],
    [{ signature: 'sha256' }, 'OPTION_INVALID', /an object/],
  ])('%j is thrown by the constructor', (config, code, sentence) => {
    expect(() => new WebhookService(config as WebhookConfig)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(sentence) as string }),
    )
  })

  it('is said in one place only', () => {
    const parts = { securityManager: new SecurityManager() }
    expect(() => new WebhookService({ signature: {} }, parts)).toThrow(
      expect.objectContaining({ code: 'OPTION_INVALID' }),
    )
  })
})

describe('enableSecurity: false', () => {
  journey('sends no signature, and says so once', async (stage) => {
    const warnings: string[] = []
    const service = await stage.open({
      enableSecurity: false,
      logger: { ...console, info() {}, warn: (_, message) => warnings.push(message) },
    })
    await service.registerEndpoint(stage.endpoint('shop'))
    for (let i = 0; i < 3; i += 1) {
      const request = await next(stage, service)
      expect(request?.signature).toBe('unsigned')
      expect(request?.headers['webhook-id']).toMatch(/^evt_/)
    }
    expect(warnings.filter((one) => one.includes('without a signature'))).toHaveLength(1)
  })

  journey('is not said when requests are signed', async (stage) => {
    const warnings: string[] = []
    const service = await stage.open({
      logger: { ...console, info() {}, warn: (_, message) => warnings.push(message) },
    })
    await service.registerEndpoint(stage.endpoint('shop'))
    expect((await next(stage, service))?.signature).toBe('valid')
    expect(warnings.filter((one) => one.includes('without a signature'))).toEqual([])
  })
})

describe('an Ed25519 endpoint', () => {
  journey(
    'signs so that its public key verifies, and never shows the private one',
    async (stage) => {
      const service = await stage.open()
      const registered = await service.registerEndpoint(
        stage.endpoint('shop', { secretType: 'ed25519' }),
      )
      expect(registered).not.toHaveProperty('secret')
      const { publicKey } = registered
      expect(publicKey).toMatch(/^whpk_[A-Za-z0-9+/]{43}=$/)
      const request = await next(stage, service)
      expect(request?.headers['webhook-signature']).toMatch(/^v1a,[A-Za-z0-9+/]{86}==$/)
      expect(verifies(request, publicKey ?? '')).toBe(true)
      // That one is an HMAC, and nobody shares a secret.
      expect(request?.headers['x-webhook-signature']).toBeUndefined()

      // Registered again at a start, over a restart, it keeps its key.
      await service.close()
      const second = await stage.open()
      expect(
        await second.registerEndpoint(stage.endpoint('shop', { secretType: 'ed25519' })),
      ).toMatchObject({ publicKey, version: 1 })
      const reads = [await second.listEndpoints(), await second.getEndpointHistory('shop')]
      expect(JSON.stringify(reads)).not.toContain('whsk_')
      expect(verifies(await next(stage, second), publicKey ?? '')).toBe(true)
    },
  )

  journey('takes a key that was brought', async (stage) => {
    const service = await stage.open()
    const { publicKey } = await service.registerEndpoint(
      stage.endpoint('shop', {
        secret:
          'whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==',
      }),
    )
    expect(publicKey).toBe('whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=')
    expect(verifies(await next(stage, service), publicKey ?? '')).toBe(true)
  })

  journey('comes from HMAC and goes back with an overlap in which both verify', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
    const { publicKey, signingKeys } = await service.registerEndpoint(
      stage.endpoint('shop', { secretType: 'ed25519' }),
    )
    expect(signingKeys.map((one) => one.type)).toEqual(['ed25519', 'hmac'])
    let request = await next(stage, service)
    expect(request?.headers['webhook-signature']).toMatch(/^v1a,\S+ v1,\S+$/)
    expect([verifies(request, oldSecret), verifies(request, publicKey ?? '')]).toEqual([true, true])
    expect(request?.headers['x-webhook-signature']).toBe(
      `sha256=${bodyMac(request?.body ?? '', oldSecret)}`,
    )
    await service.finishRotation('shop')
    request = await next(stage, service)
    expect(request?.headers['x-webhook-signature']).toBeUndefined()
    expect(verifies(request, oldSecret)).toBe(false)

    const { secret: created = '', ...view } = await service.rotateSecret('shop', {
      secretType: 'hmac',
    })
    expect(created).toMatch(/^whsec_/)
    // Still readable, since it still signs.
    expect(view.publicKey).toBe(publicKey)
    request = await next(stage, service)
    expect([verifies(request, created), verifies(request, publicKey ?? '')]).toEqual([true, true])
    stage.clock.advance(24 * hourMs)
    request = await next(stage, service)
    expect([verifies(request, created), verifies(request, publicKey ?? '')]).toEqual([true, false])
    expect(await service.getEndpoint('shop')).toMatchObject({ publicKey: null })
  })

  journey('needs the scheme that can carry it', async (stage) => {
    const service = await stage.open({ signature: { schemes: ['body'] } })
    const wanted = stage.endpoint('shop', { secretType: 'ed25519' })
    await expect(service.registerEndpoint(wanted)).rejects.toMatchObject({
      code: 'ENDPOINT_INVALID',
      message: expect.stringContaining("['standard']") as string,
    })
    await service.registerEndpoint({ ...wanted, signatureSchemes: ['standard'] })
    await service.registerEndpoint(stage.endpoint('other'))
    await expect(service.rotateSecret('other', { secretType: 'ed25519' })).rejects.toMatchObject({
      code: 'ENDPOINT_INVALID',
    })
    expect(await service.getEndpoint('other')).toMatchObject({ version: 1, signingKeys: [] })
  })
})

describe('rotation (I9)', () => {
  journey(
    'shows a created secret once; both sign; the single header keeps the old',
    async (stage) => {
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
      const { secret: created = '', signingKeys } = await service.rotateSecret('shop')
      expect(created).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
      expect(signingKeys).toEqual([
        {
          type: 'hmac',
          publicKey: null,
          createdAt: new Date(stage.clock.nowMs()),
          expiresAt: null,
        },
        {
          type: 'hmac',
          publicKey: null,
          createdAt: new Date(stage.clock.nowMs()),
          expiresAt: new Date(stage.clock.nowMs() + 24 * hourMs),
        },
      ])
      let request = await next(stage, service)
      const [first] = request?.headers['webhook-signature']?.split(' ') ?? []
      expect([verifies(request, oldSecret), verifies(request, created)]).toEqual([true, true])
      expect(
        verifies(
          { ...request!, headers: { ...request!.headers, 'webhook-signature': first } },
          created,
        ),
      ).toBe(true)
      expect(request?.headers['x-webhook-signature']).toBe(
        `sha256=${bodyMac(request?.body ?? '', oldSecret)}`,
      )

      const ended = await service.finishRotation('shop')
      expect(ended.signingKeys).toHaveLength(1)
      request = await next(stage, service)
      expect([verifies(request, oldSecret), verifies(request, created)]).toEqual([false, true])
      expect(request?.headers['x-webhook-signature']).toBe(
        `sha256=${bodyMac(request?.body ?? '', created)}`,
      )
      // Nothing left to end.
      expect(await service.finishRotation('shop')).toEqual(ended)
      const history = await service.getEndpointHistory('shop')
      expect(history.map((one) => [one.what, one.reason, one.fields])).toEqual([
        ['registered', null, []],
        ['secret rotated', 'by request', ['secrets']],
        ['rotation ended', 'by request', ['secrets']],
      ])
      expect(JSON.stringify([history, ended])).not.toContain(created.slice(6))
    },
  )

  journey(
    'of a delivery between its retries: every attempt signs with what is live',
    async (stage) => {
      stage.inbox.setAnswer(() => ({ status: stage.at('shop').length < 4 ? 503 : 200 }))
      const service = await stage.open({ retryScheduleMs: [hourMs, hourMs, hourMs, hourMs] })
      await service.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
      await service.dispatchEvent(stage.event())
      await service.runDue()
      await service.rotateSecret('shop', { secret: newSecret, overlapMs: 2 * hourMs })
      await stage.passTime(service)
      expect(
        stage.at('shop').map((one) => [verifies(one, oldSecret), verifies(one, newSecret)]),
      ).toEqual([
        [true, false],
        [true, true],
        // The overlap ends at this very moment.
        [false, true],
        [false, true],
      ])
      expect(new Set(stage.at('shop').map((one) => one.headers['webhook-id'])).size).toBe(1)
    },
  )

  journey('with overlapMs: 0 ends every earlier secret at once', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
    await service.rotateSecret('shop')
    await service.rotateSecret('shop', { secret: newSecret, overlapMs: 0 })
    const request = await next(stage, service)
    expect(request?.headers['webhook-signature']?.split(' ')).toHaveLength(1)
    expect(verifies(request, newSecret)).toBe(true)
  })

  journey('refuses a fourth secret instead of breaking a promise', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
    await service.rotateSecret('shop')
    await service.rotateSecret('shop')
    await expect(service.rotateSecret('shop')).rejects.toMatchObject({ code: 'SECRET_LIMIT' })
    expect(verifies(await next(stage, service), oldSecret)).toBe(true)
    stage.clock.advance(24 * hourMs)
    await service.rotateSecret('shop')
  })

  journey('from the shared secret: receivers that hold it go on', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop'))
    const { secret: created = '' } = await service.rotateSecret('shop')
    const request = await next(stage, service)
    expect([verifies(request, secret), verifies(request, created)]).toEqual([true, true])
    expect(request?.signature).toBe('valid')
    // Never a tenant's: it never signed with it.
    await service.registerEndpoint(stage.endpoint('own', { tenantId: 'acme' }))
    const { signingKeys } = await service.rotateSecret('own', { tenantId: 'acme', overlapMs: 0 })
    expect(signingKeys).toHaveLength(1)
  })

  journey('repeated with the same secret changes nothing', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
    const once = await service.rotateSecret('shop', { secret: newSecret })
    expect(await service.rotateSecret('shop', { secret: newSecret })).toEqual(once)
  })

  journey(
    'by call stands, although the app registers with the old one at its start',
    async (stage) => {
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
      const rotated = await service.rotateSecret('shop', { secret: newSecret })
      await service.close()
      const second = await stage.open()
      const again = await second.registerEndpoint(stage.endpoint('shop', { secret: oldSecret }))
      expect(again.signingKeys).toEqual(rotated.signingKeys)
      expect(second.registry.find('shop')?.secrets[0]?.secret).toBe(newSecret)
      // Asked for, it goes back.
      await second.updateEndpoint('shop', { secret: oldSecret })
      await second.finishRotation('shop')
      const request = await next(stage, second)
      expect([verifies(request, oldSecret), verifies(request, newSecret)]).toEqual([true, false])
    },
  )

  journey('by registering goes back by registering', async (stage) => {
    const service = await stage.open()
    for (const one of [oldSecret, newSecret, oldSecret]) {
      await service.registerEndpoint(stage.endpoint('shop', { secret: one }))
    }
    await service.finishRotation('shop')
    expect(verifies(await next(stage, service), oldSecret)).toBe(true)
  })

  it.each([
    [{ overlapMs: -1 }, 'OPTION_OUT_OF_RANGE'],
    [{ overlapMs: '1h' }, 'OPTION_OUT_OF_RANGE'],
    [{ secret: 'short' }, 'SECRET_INVALID'],
    [{ secret: '' }, 'SECRET_INVALID'],
    [{ secret: oldSecret, secretType: 'ed25519' }, 'SECRET_INVALID'],
    [{ secretType: 'rsa' }, 'ENDPOINT_INVALID'],
    [{ overlap: 1 }, 'OPTION_UNKNOWN'],
    [{ tenantId: 'somebody-else' }, 'ENDPOINT_NOT_FOUND'],
  ])('refuses %j', async (options, code) => {
    const { WebhookRegistry } = await import('@k-msg/webhook')
    const registry = new WebhookRegistry()
    const before = await registry.register({
      id: 'a',
      url: 'https://a.example.com/',
      events: ['*'],
    })
    await expect(registry.rotateSecret('a', options as object)).rejects.toMatchObject({ code })
    expect(registry.get('a')?.version).toBe(before.version)
  })

  it('by the type of a secret is not for updateEndpoint, which could not show it', async () => {
    const { WebhookRegistry } = await import('@k-msg/webhook')
    const registry = new WebhookRegistry()
    await registry.register({ id: 'a', url: 'https://a.example.com/', events: ['*'] })
    await expect(registry.update('a', { secretType: 'ed25519' } as object)).rejects.toMatchObject({
      code: 'ENDPOINT_INVALID',
      message: expect.stringContaining('rotateSecret') as string,
    })
  })
})

describe('a short secret', () => {
  journey('is advised against when it comes in, and not again', async (stage) => {
    const warnings: [Record<string, unknown>, string][] = []
    const logger = {
      ...console,
      info() {},
      warn: (...line: (typeof warnings)[0]) => warnings.push(line),
    }
    const service = await stage.open({ logger })
    const short = stage.endpoint('shop', { secret: 'sixteen-bytes-16' })
    await service.registerEndpoint(short)
    await service.registerEndpoint(short)
    await service.updateEndpoint('shop', { name: 'another' })
    const advice = warnings.filter(([, message]) => message.includes('24 random ones'))
    expect(advice.map(([fields]) => fields)).toEqual([{ of: 'shop', bytes: 16 }])
    expect(JSON.stringify(warnings)).not.toContain('sixteen-bytes')
  })
})

journey('a secret shown before the service knew its store is said to be void', async (stage) => {
  const open = async (registry: WebhookRegistry, warn: string[]) => {
    const note = (fields: Record<string, unknown>, message: string) => {
      if (fields.endpoint === 'one') warn.push(message)
    }
    const logger = { debug() {}, info() {}, warn: note, error: note }
    return await stage.open({ logger, secretKey: undefined }, { registry })
  }
  const first = new WebhookRegistry({ allowedNetworks: ['127.0.0.0/8'] })
  const shown = await first.register(stage.endpoint('one'))
  const warnings: string[] = []
  const service = await open(first, warnings)
  await service.dispatchEvent(stage.event())
  await service.drain()
  expect(verifies(stage.at('one')[0], shown.secret ?? '')).toBe(true)
  await service.close()
  expect(warnings).toEqual([])

  const again = new WebhookRegistry({ allowedNetworks: ['127.0.0.0/8'] })
  await again.register(stage.endpoint('one'))
  const reopened = await open(again, warnings)
  await reopened.dispatchEvent(stage.event())
  await reopened.drain()
  expect(verifies(stage.at('one')[1], shown.secret ?? '')).toBe(true)
  expect(warnings).toEqual([expect.stringContaining('signs nothing')])
})

journey(
  'a secret that comes back by registering after rotateSecret is warned of',
  async (stage) => {
    const warnings: string[] = []
    const note = (_: Record<string, unknown>, message: string) => {
      warnings.push(message)
    }
    const logger = { debug() {}, info() {}, warn: note, error: note }
    const service = await stage.open({ logger })
    await service.registerEndpoint(stage.endpoint('one', { secret: oldSecret }))
    await service.rotateSecret('one', { secret: newSecret, overlapMs: 0 })
    expect(warnings.filter((one) => one.includes('rotateSecret'))).toEqual([])
    await service.registerEndpoint(stage.endpoint('one', { secret: oldSecret }))
    expect(warnings.filter((one) => one.includes('rotateSecret'))).toHaveLength(1)
  },
)
