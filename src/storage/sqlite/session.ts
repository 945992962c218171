/**
 * What the worker thread knows between calls: its connection, its incarnation, and the two mirrors
 * of the database that make every call cheap: the status of each endpoint, and the size of the
 * backlog. A mirror changes only after the transaction that changed the rows.
 */
import { randomBytes } from 'node:crypto'
import type { EndpointStatus } from '../../model/endpoint.ts'
import { createKeyMaker } from '../../model/ids.ts'
import { Connection } from './connection.ts'
import { dissolveBatch } from './dissolve.ts'
import type { Database } from './driver.ts'
import { removeLive } from './order.ts'
import type { Resume } from './protocol.ts'
import { migrate, schemaNumber } from './schema.ts'
import { keepDelaysOfWrongClock } from './set-back.ts'

export interface EndpointMirror {
  readonly status: EndpointStatus
  readonly removed: boolean
}

export interface Session {
  readonly connection: Connection
  readonly location: string
  readonly owner: number
  readonly endpoints: Map<string, EndpointMirror>
  readonly tally: Tally
  /** Slots that are on disk, see slot.ts. */
  readonly knownSlots: Set<string>
  /** The log may still hold what has been replaced by something less secret. */
  mustScrubLog: boolean
  newKey(nowMs: number): string
}

export interface OpenOptions {
  readonly location: string
  readonly nowMs: number
  readonly resume: Resume | null
}

/** Everything a dead process owned waits again, due when it was: its attempts may have happened. */
const releaseDeadOwners = `
  update live set state = 'waiting', owner = null, claim_no = null where owner is not null`

/** A claim whose answer was lost: nobody sends what it took, so it is as if it never happened. */
const releaseClaim = `
  update live set state = 'waiting', owner = null, claim_no = null where claim_no = ?`

/** Cancelled while a process owned it that is gone: its attempt may have happened. */
const endCancelled = `
  insert into done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                    created_at_ms, settled_at_ms)
  select id, event_key, endpoint_key, 'cancelled', cancel_reason, round, attempts, token,
         created_at_ms, ?
    from live where cancel_reason is not null and owner is null and batch_id is null`
const findCancelled = `
  select id from live where cancel_reason is not null and owner is null and batch_id is null`
const findMarkedBatches = `
  select id from live where cancel_reason is not null and owner is null and kind = 'batch'`

const startIncarnation = 'insert into worker (started_at_ms) values (?) returning id'

export function openSession(database: Database, options: OpenOptions): Session {
  const connection = new Connection(database)
  const { location } = options
  const found = schemaNumber(connection, location)
  configure(database)
  migrate(connection, found)
  const owner = connection.write(() => takeOver(connection, options))
  let clockMs = 0
  const nextKey = createKeyMaker(() => clockMs, randomBytes)
  const session: Session = {
    connection,
    location,
    owner,
    endpoints: readEndpointMirror(connection),
    tally: countTally(connection),
    knownSlots: new Set(),
    // A process that died may have left what it had just replaced.
    mustScrubLog: true,
    newKey(nowMs) {
      clockMs = nowMs
      return nextKey()
    },
  }
  return session
}

function configure(database: Database): void {
  // The timeout covers the moments in which a backup or an audit connection starts.
  database.exec('pragma busy_timeout = 5000')
  database.exec('pragma journal_mode = wal')
  // FULL: a commit that was answered survives a power cut. NORMAL would lose the last ones.
  database.exec('pragma synchronous = full')
  // Checkpoints are made apart from commits, see checkpoint.ts.
  database.exec('pragma wal_autocheckpoint = 0')
  database.exec('pragma cache_size = -32000')
  database.exec('pragma temp_store = memory')
  database.exec('pragma foreign_keys = off')
}

function takeOver(connection: Connection, { nowMs, resume }: OpenOptions): number {
  if (resume) {
    for (const claimNo of resume.unansweredClaims) connection.run(releaseClaim, claimNo)
  } else connection.run(releaseDeadOwners)
  for (const { id } of connection.all<{ id: string }>(findMarkedBatches)) {
    connection.erasing(() => dissolveBatch({ connection }, id, nowMs))
  }
  connection.run(endCancelled, nowMs)
  for (const { id } of connection.all<{ id: string }>(findCancelled)) {
    removeLive({ connection }, id, nowMs, false)
  }
  if (resume) return resume.owner
  keepDelaysOfWrongClock(connection, nowMs)
  connection.run('delete from worker')
  return connection.get<{ id: number }>(startIncarnation, nowMs)?.id ?? 0
}

function readEndpointMirror(connection: Connection): Map<string, EndpointMirror> {
  const rows = connection.all<{ key: string; status: EndpointStatus; removed: number }>(
    'select key, status, removed_at_ms is not null as removed from endpoint',
  )
  return new Map(rows.map((row) => [row.key, { status: row.status, removed: row.removed === 1 }]))
}

/** Why nothing may wait for this endpoint, or null when it may. */
export function closedReason(session: Session, endpointKey: string): string | null {
  const endpoint = session.endpoints.get(endpointKey)
  if (endpoint === undefined) return null
  if (endpoint.removed) return 'endpoint_removed'
  return endpoint.status === 'disabled' ? 'endpoint_disabled' : null
}

/**
 * The size of the backlog, counted once at open and then kept up by every verb: counting a million
 * rows takes a tenth of a second. Members of a batch count as what their batch is.
 */
export class Tally {
  waiting = 0
  delivering = 0
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  add(waiting: number, delivering: number): void {
    this.#connection.afterCommit(() => {
      this.waiting += waiting
      this.delivering += delivering
    })
  }
}

const countLive = `
  select count(*) as singles, count(owner) as owned from live where kind = 'single'`

const countInFlightMembers = `
  select coalesce(sum(member_count), 0) as members
    from live join batch on batch.id = live.id where live.kind = 'batch' and owner is not null`

function countTally(connection: Connection): Tally {
  const tally = new Tally(connection)
  const live = connection.get<{ singles: number; owned: number }>(countLive)
  const batches = connection.get<{ members: number }>(countInFlightMembers)
  tally.delivering = (live?.owned ?? 0) + (batches?.members ?? 0)
  tally.waiting = (live?.singles ?? 0) - tally.delivering
  return tally
}
