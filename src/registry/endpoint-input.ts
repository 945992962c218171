/** The door for endpoints: what `registerEndpoint` and `updateEndpoint` refuse, and why. */
import type { EndpointRecord, WebhookEndpointInput } from '../model/endpoint.ts'
import { describeValue, WebhookError } from '../model/errors.ts'
import { refuseUnknown } from '../model/given.ts'
import { momentMs } from '../model/moment.ts'
import { checkEventPattern, checkTenantId, idPattern } from '../model/names.ts'
import type { SignatureScheme } from '../model/signature.ts'
import { checkBodyFilter } from '../policy/body-filter.ts'
import { checkRateLimit } from '../policy/rate.ts'
import { checkRetryConfig, retryFields } from '../policy/retry-manager.ts'
import { checkEndpointTls } from '../security/endpoint-tls.ts'
import { checkEndpointUrl } from '../security/endpoint-url.ts'
import { checkHeaders } from '../security/headers.ts'
import { checkSchemes } from '../security/signer.ts'
import { checkSigningSecret, secretTypeOf } from '../security/signing-key.ts'
import { currentType } from './rotation.ts'

export interface EndpointRules {
  readonly allowedNetworks: readonly string[]
  /** The header of the service's own signature. */
  readonly signatureHeader?: string | undefined
}

const fields = [
  'id',
  'url',
  'events',
  'name',
  'description',
  'active',
  'status',
  'secret',
  'secretType',
  'signatureSchemes',
  'filters',
  'bodyFilter',
  'retryConfig',
  'headers',
  'tls',
  'timeoutMs',
  'concurrency',
  'rateLimit',
  'batch',
  'ordering',
  'tenantId',
  'createdAt',
  'updatedAt',
] as const satisfies readonly (keyof WebhookEndpointInput)[]

/** Each is looked at for every event type that comes by, and kept in memory for the next. */
const maxEvents = 200
const maxFilterValues = 1_000
const maxFilterLength = 256

/**
 * @returns the url as it is kept: parsed once, normalised
 * @throws WebhookError ENDPOINT_INVALID, ENDPOINT_ID_INVALID, ENDPOINT_URL_INVALID,
 *   ADDRESS_BLOCKED, SECRET_INVALID, EVENT_TYPE_INVALID, OPTION_UNKNOWN, OPTION_OUT_OF_RANGE
 */
export function checkEndpointInput(input: WebhookEndpointInput, rules: EndpointRules): string {
  if (typeof input !== 'object' || input === null) {
    throw invalid('an endpoint', 'to be an object with `id`, `url` and `events`', input)
  }
  refuseUnknown(input, fields, 'a field of an endpoint')
  if (typeof input.id !== 'string' || !idPattern.test(input.id)) {
    throw new WebhookError(
      'ENDPOINT_ID_INVALID',
      `Expected \`id\` to be 1 to 256 characters of A-Z, a-z, 0-9, _ and -, got ${describeValue(input.id)}; a UUID is fine.`,
    )
  }
  checkTenantId(input.tenantId)
  const { href } = checkEndpointUrl(input.url, { allowedNetworks: rules.allowedNetworks })
  checkEvents(input.events)
  checkSecretAndType(input.secret, input.secretType)
  if (input.signatureSchemes !== undefined && input.signatureSchemes !== null) {
    checkSchemes(input.signatureSchemes, '`signatureSchemes`')
  }
  if (input.headers !== undefined) checkHeaders(input.headers, rules.signatureHeader)
  checkEndpointTls(input.tls)
  if (input.tls && href.startsWith('http:')) {
    throw invalid('`tls`', 'to come with an https `url`', 'one with http')
  }
  checkFilters(input.filters)
  if (input.bodyFilter != null) checkBodyFilter(input.bodyFilter)
  checkRetry(input.retryConfig)
  // Null: as the service has it, also where it was set before.
  if (input.timeoutMs !== null) checkInteger('timeoutMs', input.timeoutMs, 1, 300_000)
  if (input.concurrency !== null) checkInteger('concurrency', input.concurrency, 1, 10_000)
  if (input.rateLimit !== null) checkRateLimit('rateLimit', input.rateLimit)
  checkBatch(input.batch)
  if (input.ordering != null) checkOrdering(input.ordering)
  checkSimple(input)
  return href
}

/** @throws WebhookError SECRET_INVALID, ENDPOINT_INVALID */
export function checkSecretAndType(secret: unknown, secretType: unknown): void {
  if (![undefined, 'hmac', 'ed25519'].includes(secretType as string)) {
    throw invalid('`secretType`', "to be 'hmac' or 'ed25519'", secretType)
  }
  if (secret === undefined) return
  checkSigningSecret(secret)
  if (secretType === undefined || secretType === secretTypeOf(secret)) return
  throw new WebhookError(
    'SECRET_INVALID',
    `Expected \`secret\` to be of \`secretType\` "${secretType}", got one of "${secretTypeOf(secret)}"; leave out one of the two.`,
  )
}

function checkSimple(input: WebhookEndpointInput): void {
  for (const name of ['name', 'description'] as const) {
    const value = input[name]
    if (value !== undefined && (typeof value !== 'string' || value.length > 2_000)) {
      throw invalid(`\`${name}\``, 'to be a text of at most 2000 characters', value)
    }
  }
  if (input.active !== undefined && typeof input.active !== 'boolean') {
    throw invalid('`active`', 'to be true or false', input.active)
  }
  const statuses: readonly unknown[] = ['active', 'paused', 'disabled', undefined]
  if (!statuses.includes(input.status)) {
    throw invalid('`status`', "to be 'active', 'paused' or 'disabled'", input.status)
  }
  checkAgreement(input)
  for (const name of ['createdAt', 'updatedAt'] as const) {
    if (input[name] !== undefined && Number.isNaN(momentMs(input[name]))) {
      throw invalid(`\`${name}\``, 'to be a valid Date, or left out', input[name])
    }
  }
}

/** Whoever spreads an endpoint and changes one of the two would not know which of them counts. */
function checkAgreement({ active, status }: WebhookEndpointInput): void {
  if (active === undefined || status === undefined) return
  if (active === (status !== 'disabled')) return
  throw invalid(
    '`active`',
    `to agree with \`status: '${status}'\` (or one of the two left out)`,
    active,
  )
}

function checkEvents(events: unknown): void {
  if (!Array.isArray(events) || events.length === 0) {
    throw invalid('`events`', "to be a non-empty list such as ['message.sent'] or ['*']", events)
  }
  if (events.length > maxEvents) {
    throw invalid(
      '`events`',
      `to list at most ${maxEvents} patterns; use 'message.*' or '*'`,
      events,
    )
  }
  for (const pattern of events) checkEventPattern(pattern, 'events')
}

function checkFilters(filters: unknown): void {
  if (filters === undefined) return
  if (typeof filters !== 'object' || filters === null || Array.isArray(filters)) {
    throw invalid('`filters`', "to be an object such as { providerId: ['iwinv'] }", filters)
  }
  let values = 0
  for (const [key, wanted] of Object.entries(filters)) {
    if (wanted === undefined) continue
    const valid =
      Array.isArray(wanted) &&
      wanted.every((one) => ['string', 'boolean'].includes(typeof one) || Number.isFinite(one))
    if (!valid) {
      throw invalid(`\`filters.${key}\``, 'to be a list of texts, numbers or booleans', wanted)
    }
    if (wanted.length === 0) {
      // Nothing would ever pass it.
      throw invalid(
        `\`filters.${key}\``,
        'to list at least one value; leave it out to allow every one',
        wanted,
      )
    }
    values += wanted.length
    if (values > maxFilterValues || wanted.some((one) => String(one).length > maxFilterLength)) {
      throw invalid(
        '`filters`',
        `to hold at most ${maxFilterValues} values in all, each of at most ${maxFilterLength} characters`,
        filters,
      )
    }
  }
}

function checkRetry(retryConfig: WebhookEndpointInput['retryConfig']): void {
  if (retryConfig === undefined) return
  if (typeof retryConfig !== 'object' || retryConfig === null) {
    throw invalid('`retryConfig`', 'to be an object such as { maxRetries: 5 }', retryConfig)
  }
  refuseUnknown(retryConfig, retryFields, 'a field of `retryConfig`')
  checkRetryConfig(retryConfig, 'retryConfig.')
}

function checkBatch(batch: unknown): void {
  if (batch === undefined || typeof batch === 'boolean') return
  if (typeof batch !== 'object' || batch === null) {
    throw invalid('`batch`', 'to be true, false or { size, timeoutMs }', batch)
  }
  const { size, timeoutMs } = batch as { size?: unknown; timeoutMs?: unknown }
  refuseUnknown(batch, ['size', 'timeoutMs'], 'a field of `batch`')
  if (size === undefined || timeoutMs === undefined) {
    const missing = size === undefined ? 'size' : 'timeoutMs'
    throw new WebhookError(
      'ENDPOINT_INVALID',
      `Expected \`batch\` to name both \`size\` and \`timeoutMs\`, got one without \`${missing}\`; \`true\` takes those of the service.`,
    )
  }
  checkInteger('batch.size', size, 1, 1_000)
  checkInteger('batch.timeoutMs', timeoutMs, 0, 3_600_000)
}

function checkOrdering(ordering: unknown): void {
  const expected = "to be { key, onExhausted }: a key of `metadata`, and 'block' or 'skip'"
  if (typeof ordering !== 'object' || ordering === null) {
    throw invalid('`ordering`', expected, ordering)
  }
  refuseUnknown(ordering, ['key', 'onExhausted'], 'a field of `ordering`')
  const { key, onExhausted } = ordering as Record<string, unknown>
  if (typeof key !== 'string' || key === '' || key.length > maxFilterLength) {
    const short = `to be a key of \`metadata\`, a text of 1 to ${maxFilterLength} characters`
    throw invalid('`ordering.key`', short, key)
  }
  if (onExhausted === 'block' || onExhausted === 'skip') return
  throw invalid('`ordering.onExhausted`', "to be 'block' or 'skip'", onExhausted)
}

function checkInteger(name: string, value: unknown, min: number, max: number): void {
  if (value === undefined) return
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return
  throw new WebhookError(
    'OPTION_OUT_OF_RANGE',
    `Expected \`${name}\` to be an integer from ${min} to ${max}, got ${describeValue(value)}.`,
  )
}

/** @throws WebhookError ENDPOINT_INVALID */
export function refuseNoChanges(changes: unknown): void {
  if (typeof changes === 'object' && changes !== null) return
  throw invalid('the changes', "to be an object such as { events: ['message.*'] }", changes)
}

/** @throws WebhookError ENDPOINT_INVALID */
export function refuseWhatStays(given: object): void {
  const changes: { id?: unknown; tenantId?: unknown; secretType?: unknown } = given
  for (const name of ['id', 'tenantId'] as const) {
    if (changes[name] === undefined) continue
    throw new WebhookError(
      'ENDPOINT_INVALID',
      `Expected no \`${name}\` among the changes, because it never changes; the endpoint to update is named beside them.`,
    )
  }
  // The result of an update has no place for a created secret.
  if (changes.secretType === undefined) return
  throw new WebhookError(
    'ENDPOINT_INVALID',
    "Expected no `secretType` among the changes; use rotateSecret(id, { secretType: 'ed25519' }).",
  )
}

/**
 * Fields that go together, whichever of them was changed.
 *
 * @param serviceSchemes signatures of endpoints that do not say otherwise
 * @throws WebhookError ENDPOINT_INVALID
 */
export function requireConsistent(
  record: EndpointRecord,
  serviceSchemes: readonly SignatureScheme[],
): void {
  requireSignable(record, record.signatureSchemes ?? serviceSchemes)
  if (record.ordering === null || record.batch === false) return
  throw new WebhookError(
    'ENDPOINT_INVALID',
    `Expected endpoint "${record.id}" to have \`ordering\` or \`batch\`, got both; events of a batch are not sent one after the other.`,
  )
}

/** Ed25519 is a signature of Standard Webhooks only. */
function requireSignable(record: EndpointRecord, schemes: readonly SignatureScheme[]): void {
  if (currentType(record) === 'hmac' || schemes.includes('standard')) return
  throw new WebhookError(
    'ENDPOINT_INVALID',
    `Expected 'standard' among the signature schemes of endpoint "${record.id}", because it signs with an Ed25519 key, got ${JSON.stringify(schemes)}; set its \`signatureSchemes\` to ['standard'].`,
  )
}

function invalid(what: string, expected: string, got: unknown): WebhookError {
  return new WebhookError(
    'ENDPOINT_INVALID',
    `Expected ${what} ${expected}, got ${describeValue(got)}.`,
  )
}
