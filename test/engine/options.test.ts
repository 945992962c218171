import { type WebhookConfig, WebhookService } from '@k-msg/webhook'
import { describe, expect, it } from 'vitest'
import { checkConfig } from '../../src/engine/options.ts'

/** Each wrong option, its code, and a word that says what to do. */
const bad: readonly [string, unknown, string, RegExp][] = [
  ['no object', 'x', 'OPTION_INVALID', /object/],
  ['null', null, 'OPTION_INVALID', /object/],
  ['a slip of the case', { timeoutMS: 1 }, 'OPTION_UNKNOWN', /did you mean `timeoutMs`/],
  ['a singular', { maxRetry: 1 }, 'OPTION_UNKNOWN', /did you mean `maxRetries`/],
  ['a slip of the pen', { batchSzie: 1 }, 'OPTION_UNKNOWN', /did you mean `batchSize`/],
  ['a name of its own', { colour: 'red' }, 'OPTION_UNKNOWN', /known are/],
  ['a time as a text', { timeoutMs: '5s' }, 'OPTION_OUT_OF_RANGE', /"5s" \(string\)/],
  ['no time at all', { timeoutMs: 0 }, 'OPTION_OUT_OF_RANGE', /1 to 300000/],
  ['a negative number', { batchTimeoutMs: -1 }, 'OPTION_OUT_OF_RANGE', /-1/],
  ['half a number', { batchSize: 2.5 }, 'OPTION_OUT_OF_RANGE', /integer/],
  ['not a number', { maxConcurrency: Number.NaN }, 'OPTION_OUT_OF_RANGE', /NaN/],
  ['endless', { shutdownTimeoutMs: Number.POSITIVE_INFINITY }, 'OPTION_OUT_OF_RANGE', /Infinity/],
  ['negative retries', { maxRetries: -1 }, 'OPTION_OUT_OF_RANGE', /maxRetries/],
  ['an empty schedule', { retryScheduleMs: [] }, 'SCHEDULE_EMPTY', /maxRetries: 0/],
  ['a schedule of its own name', { retryScheduleMs: 'slow' }, 'OPTION_OUT_OF_RANGE', /standard/],
  ['a short secret', { secretKey: 'short' }, 'SECRET_INVALID', /`secretKey` to be at least 16/],
  ['a cut secret', { secretKey: 'whsec_A' }, 'SECRET_INVALID', /`secretKey` to be base64/],
  ['a secret that is none', { secretKey: 5 }, 'SECRET_INVALID', /`secretKey` to be a text/],
  ['a shared private key', { secretKey: 'whsk_AAAAAAAAAAAAAAAA' }, 'SECRET_INVALID', /secretType/],
  ['no encryption key', { encryptionKeys: [] }, 'ENCRYPTION_KEY_INVALID', /leave it out/],
  ['a bad encryption key', { encryptionKeys: ['k1:abc'] }, 'ENCRYPTION_KEY_INVALID', /32 random/],
  ['a rule nobody knows', { redirects: 'follow' }, 'OPTION_INVALID', /"success" or "failure"/],
  ['events as a text', { enabledEvents: '*' }, 'OPTION_INVALID', /list/],
  ['a bad event', { enabledEvents: ['Message'] }, 'EVENT_TYPE_INVALID', /`enabledEvents`.+a-z/],
  ['a network as a text', { allowedNetworks: '10.0.0.0/8' }, 'OPTION_INVALID', /list/],
  [
    'a network that is none',
    { allowedNetworks: ['10.0.0.0/99'] },
    'OPTION_INVALID',
    /10\.0\.0\.0\/99/,
  ],
  ['security as a text', { enableSecurity: 'no' }, 'OPTION_INVALID', /true or false/],
  ['an unknown retention', { retention: { settledDays: 3 } }, 'OPTION_UNKNOWN', /retention/],
  ['no retention', { retention: null }, 'OPTION_INVALID', /retention/],
  ['a store as a number', { storage: 5 }, 'OPTION_INVALID', /`storage`.+sqlite/],
  ['a store that opens nothing', { storage: {} }, 'OPTION_INVALID', /`storage`/],
  ['no store', { storage: null }, 'OPTION_INVALID', /`storage`/],
  ['half a clock', { clock: { nowMs: Date.now } }, 'OPTION_INVALID', /`clock`.+setTimer/],
  ['no clock', { clock: null }, 'OPTION_INVALID', /`clock`/],
  ['a fixed die', { random: 4 }, 'OPTION_INVALID', /`random`.+function/],
  ['a logger as a number', { logger: 5 }, 'OPTION_INVALID', /`logger`.+console/],
  ['a logger as a switch', { logger: true }, 'OPTION_INVALID', /`logger`.+false/],
  ['half a logger', { logger: { info() {} } }, 'OPTION_INVALID', /`logger`.+debug/],
  ['a slip in systemEvents', { systemEvents: { endpoint: 'a' } }, 'OPTION_UNKNOWN', /endpointId/],
  [
    'more retries than delays',
    { retryScheduleMs: [5, 50], maxRetries: 3 },
    'OPTION_OUT_OF_RANGE',
    /`maxRetries`.+2.+`retryScheduleMs`/,
  ],
  ['a negative retention', { retention: { settledMs: -1 } }, 'OPTION_OUT_OF_RANGE', /settledMs/],
]

describe('the options of a service', () => {
  it.each(bad)('%s is thrown by the constructor', (_name, config, code, sentence) => {
    let thrown: unknown
    try {
      new WebhookService(config as WebhookConfig)
    } catch (error) {
      thrown = error
    }
    expect(thrown).toMatchObject({ name: 'WebhookError', code })
    expect((thrown as Error).message).toMatch(/^Expected /)
    expect((thrown as Error).message).toMatch(sentence)
  })

  it('have the defaults of the documents', () => {
    expect(checkConfig({})).toEqual({
      timeoutMs: 30_000,
      enableSecurity: true,
      secretKey: null,
      keyRing: null,
      enabledEvents: null,
      batchSize: 10,
      batchTimeoutMs: 5_000,
      allowedNetworks: [],
      redirects: 'success',
      maxConcurrency: 512,
      endpointConcurrency: 10,
      endpointRateLimit: null,
      deliver: true,
      maxPayloadBytes: 262_144,
      memoryCapacity: 50_000,
      maxBacklog: null,
      maxTenantBacklog: null,
      retention: {
        settledMs: 30 * 86_400_000,
        deliveredBodiesMs: 7 * 86_400_000,
        eventIdsMs: 30 * 86_400_000,
      },
      disableAfterMs: 5 * 86_400_000,
      systemEvents: null,
      rotationOverlapMs: 86_400_000,
      shutdownTimeoutMs: 5_000,
    })
  })

  it('take part of a list of delays', () => {
    const config = { retryScheduleMs: 'standard', maxRetries: 9 } as const
    expect(() => checkConfig(config)).not.toThrow()
  })

  it('that are undefined are as if left out', () => {
    const names = ['timeoutMs', 'maxRetries', 'retryScheduleMs', 'secretKey', 'clock', 'retention']
    const config = Object.fromEntries(names.map((name) => [name, undefined]))
    expect(checkConfig(config)).toEqual(checkConfig({}))
  })
})
