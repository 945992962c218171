/** What the methods of WebhookService are given beside events, endpoints, ids and scopes. */
import { describeValue, WebhookError } from '../model/errors.ts'
import type { DispatchOptions, DispatchTimesOptions } from './shapes.ts'

export const timesOptions = [
  'deliverAt',
  'expiresAt',
] as const satisfies readonly (keyof DispatchTimesOptions)[]

export const dispatchOptions = [
  ...timesOptions,
  'transaction',
] as const satisfies readonly (keyof DispatchOptions)[]

/** What the history of an endpoint is to say. */
export function checkReason(reason: unknown): void {
  if (reason === undefined || typeof reason === 'string') return
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected \`reason\` to be a text, got ${describeValue(reason)}; a scope such as { tenantId } comes after it.`,
  )
}

/** A change that a page of `getEndpointHistory` brought. */
export function checkBefore(before: unknown): void {
  if (before === undefined) return
  const { version, atMs, what } = (before ?? {}) as Readonly<Record<string, unknown>>
  if (Number.isInteger(version) && Number.isInteger(atMs) && typeof what === 'string') return
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected \`before\` to be the first change of the page that came before, got ${describeValue(before)}.`,
  )
}

export function checkTimeout(timeoutMs: unknown): void {
  if (timeoutMs === undefined || (Number.isFinite(timeoutMs) && (timeoutMs as number) >= 0)) return
  throw new WebhookError(
    'OPTION_OUT_OF_RANGE',
    `Expected \`timeoutMs\` to be a number of milliseconds from 0, got ${describeValue(timeoutMs)}; leave it out to wait as long as it takes.`,
  )
}

export function checkPath(path: unknown): void {
  if (typeof path === 'string' && path !== '') return
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected the path of a new file to write the backup to, got ${describeValue(path)}.`,
  )
}
