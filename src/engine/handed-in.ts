/** What the options hand in to be called: a wrong one would fail late, some in the middle of a retry. */
import { describeValue, WebhookError } from '../model/errors.ts'
import type { WebhookConfig } from './options.ts'

/** @throws WebhookError OPTION_INVALID */
export function checkHandedIn({ storage, clock, random, logger }: WebhookConfig): void {
  if (typeof storage !== 'string') {
    requireFunctions('storage', storage, ['open'], 'a path, sqlite(…), memory() or postgres(…)')
  }
  requireFunctions('clock', clock, ['nowMs', 'setTimer'], 'a clock with nowMs() and setTimer()')
  if (random !== undefined && typeof random !== 'function') {
    throw invalid('random', 'a function such as Math.random', random)
  }
  if (logger !== false) {
    const levels = ['debug', 'info', 'warn', 'error']
    requireFunctions(
      'logger',
      logger,
      levels,
      'false, or a logger with debug, info, warn and error such as console',
    )
  }
}

function requireFunctions(
  name: string,
  given: unknown,
  functions: readonly string[],
  expected: string,
): void {
  if (given === undefined) return
  const members = given as Readonly<Record<string, unknown>> | null
  if (functions.every((one) => typeof members?.[one] === 'function')) return
  throw invalid(name, expected, given)
}

function invalid(name: string, expected: string, got: unknown): WebhookError {
  return new WebhookError(
    'OPTION_INVALID',
    `Expected \`${name}\` to be ${expected}, got ${describeValue(got)}.`,
  )
}
