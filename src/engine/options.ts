/**
 * The options of a WebhookService: their names, defaults and limits. Checked by the constructor,
 * which is the only place where a wrong option throws instead of rejecting.
 */
import type { LookupAll, RedirectRule } from '../deliver/attempt-request.ts'
import { checkNetworkOptions, type NetworkOptions } from '../deliver/network-options.ts'
import type { Clock, Random } from '../model/clock.ts'
import { describeValue, WebhookError } from '../model/errors.ts'
import type { WebhookEventType } from '../model/event.ts'
import type { RateLimit } from '../model/flow.ts'
import { checkOptions, refuseUnknown } from '../model/given.ts'
import { checkEventType, checkTenantId } from '../model/names.ts'
import type { Logger } from '../observe/log.ts'
import { checkRateLimit } from '../policy/rate.ts'
import { checkRetryConfig } from '../policy/retry-manager.ts'
import { KeyRing } from '../security/key-ring.ts'
import { checkSecret } from '../security/secrets.ts'
import type { SecurityOptions } from '../security/security-manager.ts'
import type { Storage } from '../storage/storage.ts'
import { checkHandedIn } from './handed-in.ts'

export interface WebhookConfig extends NetworkOptions {
  /** Retries after the first attempt: 3 means at most 4 attempts. Default 3. */
  maxRetries?: number | undefined
  /** Delay before the first retry. Default 1000. */
  retryDelayMs?: number | undefined
  /** Default 300000, or the first delay where that is longer. */
  maxDelayMs?: number | undefined
  /** Default 2. */
  backoffMultiplier?: number | undefined
  /** Default true. */
  jitter?: boolean | undefined
  /**
   * Explicit delays, or `'standard'`: ten attempts within 75 hours. Replaces the exponential delays
   * above; `maxRetries` beside it takes the first of the list.
   */
  retryScheduleMs?: readonly number[] | 'standard' | undefined
  /** Longest time of one whole attempt, DNS to the last byte of the answer. Default 30000. */
  timeoutMs?: number | undefined
  /** `false` sends no signature. Default true. */
  enableSecurity?: boolean | undefined
  /** Signs for endpoints without a secret and without a tenant. At least 16 bytes. */
  secretKey?: string | undefined
  /** What signatures look like: `schemes`, `algorithm`, `header` and `prefix`, see SecurityManager. */
  signature?: SecurityOptions | undefined
  /**
   * Encrypt secrets, custom headers and TLS keys in the store: `'<id>:<32 bytes in base64>'`, newest first; the
   * newest encrypts, every one decrypts. Default: the environment variable
   * `KMSG_WEBHOOK_ENCRYPTION_KEYS`, separated by commas; without it they are stored in the clear.
   */
  encryptionKeys?: readonly string[] | undefined
  /** Types that may be dispatched; omitted: all. */
  enabledEvents?: readonly WebhookEventType[] | undefined
  /** Events per request of endpoints with `batch: true`. Default 10. */
  batchSize?: number | undefined
  /** Longest wait of the first event of a batch. Default 5000. */
  batchTimeoutMs?: number | undefined
  /** A path, `sqlite({ path })`, `memory()`. Default `./.k-msg/webhooks.db`. */
  storage?: string | Storage | undefined
  /** CIDR blocks that endpoints may live in although they are private, e.g. `['127.0.0.0/8']`. */
  allowedNetworks?: readonly string[] | undefined
  /** Resolves names instead of `dns`: every address it finds is checked all the same. */
  lookup?: LookupAll | undefined
  /** 3xx answers: `'success'` with a warning (the default), or `'failure'`. Never followed. */
  redirects?: RedirectRule | undefined
  /**
   * Requests under way, all endpoints together. What answers nothing for a second counts up to half of
   * it, so that it cannot hold up the others: twice as many at the worst. Default 512.
   */
  maxConcurrency?: number | undefined
  /** Requests under way per endpoint, all processes together, unless it says otherwise. Default 10. */
  endpointConcurrency?: number | undefined
  /** Requests per time of each endpoint, unless it says otherwise. Default: as many as there are. */
  endpointRateLimit?: RateLimit | undefined
  /**
   * `false`: this process accepts events and answers questions, and sends nothing; others on the same
   * store do. Default true.
   */
  deliver?: boolean | undefined
  /** Largest body of an event in bytes. Default 262144. */
  maxPayloadBytes?: number | undefined
  /** Deliveries kept in memory ahead of sending, all endpoints together. Default 50000. */
  memoryCapacity?: number | undefined
  /**
   * Unfinished deliveries that may wait, all together: beyond it `dispatchEvent` rejects with
   * `BACKLOG_FULL`. One endpoint holds at most half of it. Default: no limit but the disk.
   */
  maxBacklog?: number | undefined
  /** The same for each tenant. Default: no limit. */
  maxTenantBacklog?: number | undefined
  retention?: RetentionOptions | undefined
  /** Disables an endpoint after a run of only failures of this length. Default 5 days; false: never. */
  disableAfterMs?: number | false | undefined
  /** Gets `system.endpoint.failing`, `.disabled` and `.recovered` about all other endpoints. */
  systemEvents?: SystemEventsTarget | undefined
  /** How long a replaced secret signs beside the new one. Default 24 hours. */
  rotationOverlapMs?: number | undefined
  /** How long `close()` waits for requests under way. Default 5000. */
  shutdownTimeoutMs?: number | undefined
  /** `false` logs nothing. Default: warnings and errors as JSON lines on standard error. */
  logger?: Logger | false | undefined
  /** Time, handed in by tests. */
  clock?: Clock | undefined
  /** Dice, handed in by tests. */
  random?: Random | undefined
}

/** How long things are kept after they have ended. */
export interface RetentionOptions {
  /** Settled deliveries and their attempts, and the bodies of failed ones. Default 30 days. */
  settledMs?: number | undefined
  /** Bodies of events that were delivered to all. Default 7 days. */
  deliveredBodiesMs?: number | undefined
  /**
   * Event ids: after this the same id is a new event, but never while a delivery of it waits or is kept.
   * Default 30 days.
   */
  eventIdsMs?: number | undefined
}

/** The endpoint that is told what becomes of others. */
export interface SystemEventsTarget {
  endpointId: string
  tenantId?: string | undefined
}

/** All choices made. */
export interface ServiceOptions {
  readonly timeoutMs: number
  readonly enableSecurity: boolean
  readonly secretKey: string | null
  /** Null: what is secret is stored in the clear. */
  readonly keyRing: KeyRing | null
  readonly enabledEvents: ReadonlySet<string> | null
  readonly batchSize: number
  readonly batchTimeoutMs: number
  readonly allowedNetworks: readonly string[]
  readonly redirects: RedirectRule
  readonly maxConcurrency: number
  readonly endpointConcurrency: number
  readonly endpointRateLimit: RateLimit | null
  readonly deliver: boolean
  readonly maxPayloadBytes: number
  readonly memoryCapacity: number
  readonly maxBacklog: number | null
  readonly maxTenantBacklog: number | null
  readonly retention: Required<{ [Name in keyof RetentionOptions]: number }>
  /** Null: never. */
  readonly disableAfterMs: number | null
  readonly systemEvents: SystemEventsTarget | null
  readonly rotationOverlapMs: number
  readonly shutdownTimeoutMs: number
}

const hourMs = 3_600_000
const dayMs = 24 * hourMs
const yearMs = 365 * dayMs

const integers: readonly [keyof WebhookConfig, number, number][] = [
  ['timeoutMs', 1, 300_000],
  ['batchSize', 1, 1_000],
  ['batchTimeoutMs', 0, 3_600_000],
  ['maxConcurrency', 1, 10_000],
  ['endpointConcurrency', 1, 10_000],
  ['maxPayloadBytes', 64, 16_777_216],
  ['memoryCapacity', 100, 1_000_000],
  ['maxBacklog', 2, 1_000_000_000],
  ['maxTenantBacklog', 2, 1_000_000_000],
  ['rotationOverlapMs', 0, 30 * dayMs],
  ['shutdownTimeoutMs', 0, 600_000],
]

const others = [
  'maxRetries',
  'retryDelayMs',
  'maxDelayMs',
  'backoffMultiplier',
  'jitter',
  'retryScheduleMs',
  'endpointRateLimit',
  'deliver',
  'enableSecurity',
  'secretKey',
  'signature',
  'encryptionKeys',
  'enabledEvents',
  'storage',
  'allowedNetworks',
  'lookup',
  'tls',
  'proxy',
  'dns',
  'redirects',
  'retention',
  'disableAfterMs',
  'systemEvents',
  'logger',
  'clock',
  'random',
] as const satisfies readonly (keyof WebhookConfig)[]

const keysVariable = 'KMSG_WEBHOOK_ENCRYPTION_KEYS'

/** @throws WebhookError OPTION_UNKNOWN, OPTION_INVALID, OPTION_OUT_OF_RANGE, SECRET_INVALID, … */
export function checkConfig(config: WebhookConfig): ServiceOptions {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected the options of WebhookService to be an object, got ${describeValue(config)}.`,
    )
  }
  const known = [...integers.map(([name]) => name), ...others]
  refuseUnknown(config, known, 'an option of WebhookService')
  for (const [name, min, max] of integers) checkInteger(name, config[name], min, max)
  checkRetryConfig(config)
  if (config.secretKey !== undefined) checkSecretKey(config.secretKey)
  checkRateLimit('endpointRateLimit', config.endpointRateLimit)
  oneOf('deliver', config.deliver, [true, false])
  oneOf('enableSecurity', config.enableSecurity, [true, false])
  oneOf('redirects', config.redirects, ['success', 'failure'])
  checkNetworks(config.allowedNetworks)
  checkNetworkOptions(config)
  checkHandedIn(config)
  if (config.lookup !== undefined && typeof config.lookup !== 'function') {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`lookup\` to be a function (hostname, callback), got ${describeValue(config.lookup)}.`,
    )
  }
  return {
    timeoutMs: config.timeoutMs ?? 30_000,
    enableSecurity: config.enableSecurity ?? true,
    secretKey: config.secretKey ?? null,
    keyRing: keyRingOf(config.encryptionKeys, process.env[keysVariable]),
    enabledEvents: checkEnabledEvents(config.enabledEvents),
    batchSize: config.batchSize ?? 10,
    batchTimeoutMs: config.batchTimeoutMs ?? 5_000,
    allowedNetworks: config.allowedNetworks ?? [],
    redirects: config.redirects ?? 'success',
    maxConcurrency: config.maxConcurrency ?? 512,
    endpointConcurrency: config.endpointConcurrency ?? 10,
    endpointRateLimit: config.endpointRateLimit ?? null,
    deliver: config.deliver ?? true,
    maxPayloadBytes: config.maxPayloadBytes ?? 262_144,
    memoryCapacity: config.memoryCapacity ?? 50_000,
    maxBacklog: config.maxBacklog ?? null,
    maxTenantBacklog: config.maxTenantBacklog ?? null,
    retention: checkRetention(config.retention),
    disableAfterMs: checkDisableAfter(config.disableAfterMs),
    systemEvents: checkSystemEvents(config.systemEvents),
    rotationOverlapMs: config.rotationOverlapMs ?? dayMs,
    shutdownTimeoutMs: config.shutdownTimeoutMs ?? 5_000,
  }
}

/** Shared by endpoints, so what is read at one of them must not be of use at another. */
function checkSecretKey(secretKey: unknown): void {
  checkSecret(secretKey, 'secretKey')
  if (!secretKey.startsWith('whsk_')) return
  throw new WebhookError(
    'SECRET_INVALID',
    "Expected `secretKey` to be a shared HMAC secret, got an Ed25519 key; give the endpoint `secretType: 'ed25519'` instead.",
  )
}

/** The option wins; an empty variable is none. */
function keyRingOf(keys: unknown, variable: string | undefined): KeyRing | null {
  if (keys !== undefined) return new KeyRing(keys as readonly string[], '`encryptionKeys`')
  const given = (variable ?? '').split(',').map((one) => one.trim())
  const entries = given.filter((one) => one !== '')
  return entries.length === 0 ? null : new KeyRing(entries, keysVariable)
}

function checkRetention(retention: RetentionOptions = {}): ServiceOptions['retention'] {
  const names = ['settledMs', 'deliveredBodiesMs', 'eventIdsMs'] as const
  checkOptions(retention, names, '`retention`')
  for (const name of names) checkInteger(`retention.${name}`, retention[name], 0, 10 * yearMs)
  return {
    settledMs: retention.settledMs ?? 30 * dayMs,
    deliveredBodiesMs: retention.deliveredBodiesMs ?? 7 * dayMs,
    eventIdsMs: retention.eventIdsMs ?? 30 * dayMs,
  }
}

function checkDisableAfter(disableAfterMs: unknown = 5 * dayMs): number | null {
  if (disableAfterMs === false) return null
  checkInteger('disableAfterMs', disableAfterMs, hourMs, yearMs)
  return disableAfterMs as number
}

function checkSystemEvents(target: unknown): SystemEventsTarget | null {
  if (target === undefined) return null
  checkOptions(target, ['endpointId', 'tenantId'], '`systemEvents`')
  const { endpointId, tenantId } = target as Partial<SystemEventsTarget>
  if (typeof endpointId !== 'string') {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`systemEvents\` to name an endpoint, as in { endpointId: 'operations' }, got ${describeValue(target)}.`,
    )
  }
  checkTenantId(tenantId)
  return { endpointId, tenantId }
}

function checkEnabledEvents(types: unknown): ReadonlySet<string> | null {
  if (types === undefined) return null
  if (!Array.isArray(types)) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`enabledEvents\` to be a list of event types, got ${describeValue(types)}; leave it out to allow every type.`,
    )
  }
  for (const type of types) checkEventType(type, 'enabledEvents')
  return new Set(types as string[])
}

/** The blocks themselves are parsed by security/address.ts, which says what is wrong with one. */
function checkNetworks(networks: unknown): void {
  if (networks === undefined) return
  if (Array.isArray(networks) && networks.every((one) => typeof one === 'string')) return
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected \`allowedNetworks\` to be a list of CIDR blocks such as ['10.0.0.0/8'], got ${describeValue(networks)}.`,
  )
}

function oneOf(name: string, value: unknown, allowed: readonly unknown[]): void {
  if (value === undefined || allowed.includes(value)) return
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected \`${name}\` to be ${allowed.map((one) => JSON.stringify(one)).join(' or ')}, got ${describeValue(value)}.`,
  )
}

function checkInteger(name: string, value: unknown, min: number, max: number): void {
  if (value === undefined) return
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return
  throw new WebhookError(
    'OPTION_OUT_OF_RANGE',
    `Expected \`${name}\` to be an integer from ${min} to ${max}, got ${describeValue(value)}.`,
  )
}
