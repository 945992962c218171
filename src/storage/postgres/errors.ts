/**
 * Turns what PostgreSQL and the way to it report into what can be done about it, and into the errors
 * of the contract. Only what is wrong with a row itself stays a plain Error, so that the group it came
 * in can be halved down to it; everything else may work later.
 */
import { WebhookError, type WebhookErrorCode } from '../../model/errors.ts'

/**
 * `undone`: nothing of the statement was done, and the connection is good; it can be repeated here.
 * `unprepared`: the same, but this connection does not know our statements any more, or never keeps
 * any. `lost`: the connection is of no use, and what was under way may be done or not. `data`: a row
 * is refused, and would be again. `refused`: the server refuses for a reason that is not the row's.
 */
export type Trouble = 'undone' | 'unprepared' | 'lost' | 'data' | 'refused'

/** Whole SQLSTATEs first, then their classes (the first two characters). */
const troubles: Readonly<Record<string, Trouble>> = {
  // Two transactions were in each other's way, and this one gave way.
  '40001': 'undone',
  '40P01': 'undone',
  '55P03': 'undone',
  // Cancelled: by a person, or by a `statement_timeout` of this role.
  '57014': 'undone',
  // Out of memory or of a configured limit; not the disk, which stays full for longer.
  '53200': 'undone',
  '53400': 'undone',
  // Somebody deallocated our statements, or a pooler gave this one to another server connection.
  '26000': 'unprepared',
  '42P05': 'unprepared',
  // Written to a server that is in recovery or takes no writes: another one may by now.
  '25006': 'lost',
  // Too many connections, a transaction that idled for too long, a shutdown, a start, a crash.
  '53300': 'lost',
  '25P03': 'lost',
  '57P01': 'lost',
  '57P02': 'lost',
  '57P03': 'lost',
  '57P05': 'lost',
  '08': 'lost',
  // A value, a constraint, or more than a row or an index may hold.
  '21': 'data',
  '22': 'data',
  '23': 'data',
  '54': 'data',
}

/** SQLSTATE of an error of the server; null when the connection itself failed. */
export function sqlState(error: unknown): string | null {
  const { code, severity } = (error ?? {}) as { code?: unknown; severity?: unknown }
  // EPIPE is five capitals, too; only what the server says has a severity.
  if (typeof code !== 'string' || severity === undefined) return null
  return /^[0-9A-Z]{5}$/.test(code) ? code : null
}

/** Said by `pg` before the server hears of it, so without a code of either. */
const noPassword = /^SASL: .*client password must be a/

function isPasswordMissing(error: unknown): boolean {
  return error instanceof Error && noPassword.test(error.message)
}

/**
 * A day was made at this very moment, and the row had found its way to where it would have been before.
 * A constraint of a table has a name; that of a partition has none.
 */
function isOfPartition(error: unknown): boolean {
  const { table, constraint } = error as { table?: string; constraint?: string }
  return table !== undefined && constraint === undefined
}

export function troubleOf(error: unknown): Trouble {
  if (isPasswordMissing(error)) return 'refused'
  if (error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError) {
    return 'data'
  }
  const state = sqlState(error)
  if (state === null) return 'lost'
  if (state === '23514' && isOfPartition(error)) return 'undone'
  return troubles[state] ?? troubles[state.slice(0, 2)] ?? 'refused'
}

/** The server does not answer, and the connection says nothing about it. */
export class NoAnswer extends Error {
  constructor(withinMs: number) {
    super(`no answer within ${withinMs} ms`)
  }
}

/** @param location of the database, without a password */
export function storageError(error: unknown, location: string): Error {
  if (error instanceof WebhookError) return error
  if (isPasswordMissing(error)) {
    return new WebhookError(
      'STORAGE_UNAVAILABLE',
      `Expected a password for ${location}, whose server asks for one, got none; give it in the URL, as in postgres://user:password@host/database, or in PGPASSWORD.`,
      { cause: error },
    )
  }
  const said = error instanceof Error ? error.message : String(error)
  const make = (code: WebhookErrorCode, sentence: string) =>
    new WebhookError(code, `${sentence} PostgreSQL said: ${said}.`, { cause: error })
  if (troubleOf(error) === 'data') return new Error(said, { cause: error })
  switch (sqlState(error)) {
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

/** Retention and erasure never take a body from a live delivery, so the data must be damaged. */
export function bodyMissing(id: string, location: string): WebhookError {
  return new WebhookError(
    'STORAGE_CORRUPT',
    `Expected ${location} to hold the body of ${id}, which is still to be sent, and it does not; run \`kmsg-webhook doctor\`.`,
  )
}
