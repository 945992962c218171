/** What the verbs share: the way to the database, whom they write as, and what they may remember. */
import { randomBytes } from 'node:crypto'
import { createKeyMaker } from '../../model/ids.ts'
import type { Database } from './connection.ts'
import { Floors } from './floors.ts'
import type { Hints } from './hints.ts'
import type { RollupWriter } from './rollup.ts'
import type { Worker } from './worker.ts'

export interface Session {
  readonly database: Database
  readonly worker: Worker
  readonly hints: Hints
  readonly rollups: RollupWriter
  /** Somebody saw this version of the endpoints. */
  sawVersion(version: number): void
  /** What callers' transactions brought and cannot be taken in, and when each is tried again. */
  readonly refusedIntake: Map<string, number>
  /** Where claims begin to look. */
  readonly floors: Floors
  /** Slots that are written, see slot.ts. */
  readonly knownSlots: Set<string>
  /** Events came that were known: until then ids are looked for first, see accept.ts. */
  looksForIdsUntilMs: number
  /** Makes the days to come; says so when it cannot. */
  makeDays(): Promise<void>
  nowMs(): number
  newKey(nowMs: number): string
}

export function createSession(
  {
    database,
    worker,
    hints,
    rollups,
    sawVersion,
    makeDays,
  }: Pick<Session, 'database' | 'worker' | 'hints' | 'rollups' | 'sawVersion' | 'makeDays'>,
  nowMs: () => number,
): Session {
  let clockMs = 0
  const nextKey = createKeyMaker(() => clockMs, randomBytes)
  return {
    database,
    worker,
    hints,
    rollups,
    sawVersion,
    makeDays,
    refusedIntake: new Map(),
    floors: new Floors(),
    knownSlots: new Set(),
    looksForIdsUntilMs: 0,
    nowMs: () => Math.round(nowMs()),
    newKey(atMs) {
      clockMs = atMs
      return nextKey()
    },
  }
}

/** SQL: why nothing may wait for the endpoint of this row, or null. Expects it joined as `endpoint`. */
export const closedReason = `
  case when endpoint.removed_at_ms is not null then 'endpoint_removed'
       when endpoint.status = 'disabled' then 'endpoint_disabled' end`
