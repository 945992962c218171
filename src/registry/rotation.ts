/** The secrets of an endpoint as time passes. Pure: lists in, lists out, newest first. */
import type { EndpointRecord, EndpointSecret } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import type { SecretType, SigningKey } from '../model/signature.ts'
import { publicKeyOf, secretTypeOf } from '../security/signing-key.ts'

/** Each one adds a signature to every request. */
const maxLiveSecrets = 3

export interface RotationRules {
  readonly nowMs: number
  /** How long the secrets replaced go on signing beside the new one, at the most. */
  readonly overlapMs: number
  /** Signs for endpoints without a secret and without a tenant; null when there is none. */
  readonly sharedSecret: string | null
  readonly byCall: boolean
}

type Keys = Pick<EndpointRecord, 'id' | 'tenantId' | 'secrets' | 'createdAtMs'>

/** The one that stays; undefined when the service's secret signs. */
export function currentSecret({
  secrets,
}: Pick<EndpointRecord, 'secrets'>): EndpointSecret | undefined {
  return secrets.find((one) => one.expiresAtMs === null)
}

export function currentType(record: Pick<EndpointRecord, 'secrets'>): SecretType {
  const current = currentSecret(record)
  return current === undefined ? 'hmac' : secretTypeOf(current.secret)
}

/** @throws WebhookError SECRET_LIMIT */
export function rotated(
  known: Keys,
  secret: string,
  { nowMs, overlapMs, sharedSecret, byCall }: RotationRules,
): EndpointSecret[] {
  const stopsAtMs = nowMs + overlapMs
  const older = replaced(known, sharedSecret)
    .filter((one) => one.secret !== secret)
    .map(({ secret: old, createdAtMs, expiresAtMs }) => ({
      secret: old,
      createdAtMs,
      expiresAtMs: Math.min(expiresAtMs ?? stopsAtMs, stopsAtMs),
    }))
    .filter((one) => one.expiresAtMs > nowMs)
  if (older.length >= maxLiveSecrets) throw tooMany(known, older)
  const newest = { secret, createdAtMs: nowMs, expiresAtMs: null }
  return [byCall ? { ...newest, rotatedByCall: true } : newest, ...older]
}

/** Receivers that hold the service's secret need its overlap as well. */
function replaced(known: Keys, sharedSecret: string | null): readonly EndpointSecret[] {
  const signedShared = known.secrets.length === 0 && known.tenantId === ''
  if (!signedShared || sharedSecret === null) return known.secrets
  return [{ secret: sharedSecret, createdAtMs: known.createdAtMs, expiresAtMs: null }]
}

/**
 * Dropping the oldest instead would break the promise made for it, and receivers that still hold it
 * would answer 401: events would be lost.
 */
function tooMany({ id }: Keys, older: readonly EndpointSecret[]): WebhookError {
  const firstMs = Math.min(...older.map((one) => one.expiresAtMs ?? Number.POSITIVE_INFINITY))
  return new WebhookError(
    'SECRET_LIMIT',
    `Expected at most ${maxLiveSecrets} secrets that sign for endpoint "${id}" at one time, got one more; end the rotation with finishRotation("${id}"), rotate with \`overlapMs: 0\`, or wait until ${new Date(firstMs).toISOString()}.`,
  )
}

/** Only the newest one is left. @returns null when there is nothing to end */
export function finished(secrets: readonly EndpointSecret[]): EndpointSecret[] | null {
  const current = secrets.filter((one) => one.expiresAtMs === null)
  return current.length === secrets.length ? null : current
}

/** @returns null when none has expired */
export function withoutExpired(
  secrets: readonly EndpointSecret[],
  nowMs: number,
): EndpointSecret[] | null {
  const live = secrets.filter((one) => isLive(one, nowMs))
  return live.length === secrets.length ? null : live
}

/** Whether `secret` was replaced by `rotateSecret` and still signs beside its successor. */
export function wasReplacedByCall(
  record: Pick<EndpointRecord, 'secrets'>,
  secret: string,
  nowMs: number,
): boolean {
  if (currentSecret(record)?.rotatedByCall !== true) return false
  return record.secrets.some(
    (one) => one.secret === secret && one.expiresAtMs !== null && isLive(one, nowMs),
  )
}

/** Without the secrets. */
export function signingKeys(secrets: readonly EndpointSecret[], nowMs: number): SigningKey[] {
  return secrets
    .filter((one) => isLive(one, nowMs))
    .map(({ secret, createdAtMs, expiresAtMs }) => ({
      type: secretTypeOf(secret),
      publicKey: publicKeyOf(secret),
      createdAt: new Date(createdAtMs),
      expiresAt: expiresAtMs === null ? null : new Date(expiresAtMs),
    }))
}

function isLive({ expiresAtMs }: EndpointSecret, nowMs: number): boolean {
  return expiresAtMs === null || expiresAtMs > nowMs
}
