/**
 * Seen events in a database, for any number of processes. An entry of its own, because only some need
 * it and every byte of the receiver travels to the edge.
 */
import {
  defaultClaimMs,
  defaultKeepMs,
  type SeenClaim,
  type SeenEvents,
  type SeenOptions,
} from './seen-events.ts'
import { expected } from './verification-error.ts'

/**
 * Runs one statement with its values and returns the rows, if any.
 *
 * @example (sql, values) => pool.query(sql, values).then((result) => result.rows)
 */
export type QuerySql = (
  sql: string,
  values: (string | number)[],
) => Promise<readonly object[]> | readonly object[]

export interface SeenInSqlOptions extends SeenOptions {
  /** How your client writes parameters: `'$1'` (PostgreSQL, the default) or `'?'` (SQLite, MySQL). */
  placeholder?: '$1' | '?' | undefined
  /**
   * Tells receivers on one table apart: what one has handled is new to the other. Any text without
   * `:`, default `''`.
   */
  receiver?: string | undefined
}

/** The table `seenInSql` needs. */
export const seenEventsTable = `create table if not exists webhook_seen_event (
  id varchar(512) primary key,
  done integer not null,
  until_ms bigint not null,
  claim varchar(36) not null
)`

/** Often enough that the table stays small, too seldom to be noticed. */
const forgetEveryMs = 3_600_000

/**
 * For any number of processes, in the database you have; outside of your transactions. Plain SQL
 * only: the primary key decides who claims a new event, one update who takes over an old one.
 *
 * MySQL takes `evt_a` and `EVT_A` for the same key unless the column `id` has a binary collation, as
 * `varchar(512) collate utf8mb4_bin`.
 *
 * @throws WebhookVerificationError OPTION_INVALID
 */
export function seenInSql(query: QuerySql, options: SeenInSqlOptions = {}): SeenEvents {
  const { keepMs = defaultKeepMs, claimMs = defaultClaimMs, nowMs = Date.now } = options
  const { receiver = '' } = options
  // The first colon of a key ends the name: ids may have some of their own.
  if (receiver.includes(':')) {
    throw expected('OPTION_INVALID', `\`receiver\` without ":", got ${JSON.stringify(receiver)}`)
  }
  const run = withPlaceholders(query, options.placeholder ?? '$1')
  let forgetAtMs = 0

  const read = async (id: string): Promise<Row | null> => {
    const sql = 'select done, until_ms, claim from webhook_seen_event where id = ?'
    const row = (await run(sql, [id]))[0] as Record<string, unknown> | undefined
    if (row === undefined) return null
    // PostgreSQL's client returns a bigint as text.
    return { done: Number(row.done) === 1, untilMs: Number(row.until_ms), claim: String(row.claim) }
  }

  /** @returns whether we were the first */
  const insert = async (id: string, untilMs: number, claim: string): Promise<boolean> => {
    try {
      const sql = 'insert into webhook_seen_event (id, done, until_ms, claim) values (?, 0, ?, ?)'
      await run(sql, [id, untilMs, claim])
      return true
    } catch (error) {
      // Either somebody was faster, or the database has a trouble of its own.
      if ((await read(id)) === null) throw error
      return false
    }
  }

  /** @returns whether we were the first */
  const takeOver = async (id: string, untilMs: number, claim: string, atMs: number) => {
    const sql =
      'update webhook_seen_event set done = 0, until_ms = ?, claim = ? where id = ? and until_ms <= ?'
    await run(sql, [untilMs, claim, id, atMs])
    return (await read(id))?.claim === claim
  }

  const forget = async (atMs: number): Promise<void> => {
    if (atMs < forgetAtMs) return
    forgetAtMs = atMs + forgetEveryMs
    await run('delete from webhook_seen_event where until_ms <= ?', [atMs])
  }

  const claimOf = (id: string, claim: string): SeenClaim => ({
    async done() {
      const sql = 'update webhook_seen_event set done = 1, until_ms = ? where id = ?'
      await run(sql, [nowMs() + keepMs, id])
    },
    async failed() {
      // Not what another request has claimed since.
      const sql = 'delete from webhook_seen_event where id = ? and claim = ? and done = 0'
      await run(sql, [id, claim])
    },
  })

  return {
    async begin(eventId) {
      const id = `${receiver}:${eventId}`
      const atMs = nowMs()
      await forget(atMs)
      const known = await read(id)
      if (known !== null && known.untilMs > atMs) return known.done ? 'done' : 'busy'
      const claim = crypto.randomUUID()
      const untilMs = atMs + claimMs
      const won =
        known === null ? await insert(id, untilMs, claim) : await takeOver(id, untilMs, claim, atMs)
      if (won) return claimOf(id, claim)
      return (await read(id))?.done ? 'done' : 'busy'
    },
  }
}

interface Row {
  done: boolean
  untilMs: number
  claim: string
}

function withPlaceholders(query: QuerySql, placeholder: '$1' | '?'): QuerySql {
  if (placeholder === '?') return query
  return (sql, values) => {
    let index = 0
    const numbered = sql.replace(/\?/g, () => {
      index += 1
      return `$${index}`
    })
    return query(numbered, values)
  }
}
