/**
 * Turns what PostgreSQL and the way to it report into the errors of the contract. Only what is wrong
 * with a row itself stays a plain Error, so that the group it came in can be halved down to it;
 * everything else may work later, and nothing is known of what was under way.
 */
import { WebhookError, type WebhookErrorCode } from '../../model/errors.ts'

/** SQLSTATE of an error of the server; null when the connection itself failed. */
export function sqlState(error: unknown): string | null {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : null
}

/** Two transactions were in each other's way, and this one was undone: it can be repeated at once. */
export function isConflict(error: unknown): boolean {
  const state = sqlState(error)
  return state === '40001' || state === '40P01'
}

/** @param location of the database, without a password */
export function storageError(error: unknown, location: string): Error {
  if (error instanceof WebhookError) return error
  const said = error instanceof Error ? error.message : String(error)
  const make = (code: WebhookErrorCode, sentence: string) =>
    new WebhookError(code, `${sentence} PostgreSQL said: ${said}.`, { cause: error })
  const state = sqlState(error)
  if (state?.startsWith('22') || state?.startsWith('23') || isOurFault(error)) {
    return new Error(said, { cause: error })
  }
  switch (state) {
    case '53100':
      return make('STORAGE_FULL', `Expected room on the disk of ${location}; free some.`)
    case 'XX001':
    case 'XX002':
      return make(
        'STORAGE_CORRUPT',
        `Expected sound data at ${location}; check the server's disk and log.`,
      )
    default:
      return make(
        'STORAGE_UNAVAILABLE',
        `Expected an answer from ${location}; check that the server runs, takes writes and lets this user in.`,
      )
  }
}

function isOurFault(error: unknown): boolean {
  return error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError
}
