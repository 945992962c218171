/**
 * Takes due deliveries for lanes that have room: one statement for many lanes, each a seek in an
 * index that holds only what can be claimed. What another process is taking at this moment is passed
 * over, and a million deliveries of a paused endpoint cost the others nothing.
 */
import { behindMs } from '../../model/delivery.ts'
import type { Claim, ClaimResult, LaneHead, LaneRoom } from '../claims.ts'
import { membersFromJson, sealBatches } from './batch.ts'
import { endCancelled } from './cancel.ts'
import type { Connection, Database } from './connection.ts'
import { type Days, eventWithin, readEvents, recentDays } from './days.ts'
import { bodyMissing } from './errors.ts'
import type { Session } from './session.ts'
import { booleanArray, fromText, numberArray, textArray } from './text.ts'

/**
 * A lane is two ranges of the index: what may be batched, and what goes out as it is; a batching
 * lane takes only the second here. Three of what was never tried come before one of what was, as lanes
 * send them. The head of a lane is its first delivery that was not picked.
 * Both are looked for from the lane's floor on, see Floors. Events of other than these days are asked
 * for apart, see days.ts.
 */
const claimRooms = (days: Days) => `
  with me as materialized (select id from kmsg.worker where id = $1 for key share
  ), room as materialized (
    select * from unnest($2::text[], $3::int[], $4::boolean[], $7::bigint[])
                         as room (endpoint_key, n, batches, floor_ms)
     where exists (select from me)
  ), range as materialized (
    select endpoint_key, n, floor_ms, alone from room cross join (values (0), (1)) as kind (alone)
     where alone = 1 or not batches
  ), due as materialized (
    select range.endpoint_key, range.n, range.alone, found.* from range cross join lateral (
      select id, due_at_ms from kmsg.live x
       where x.endpoint_key = range.endpoint_key and x.alone = range.alone
         and owner is null and batch_id is null and due_at_ms between range.floor_ms and $5
       order by due_at_ms limit range.n for update skip locked) as found
  ), picked as materialized (
    select id, due_at_ms from (
      select *, row_number() over (partition by endpoint_key order by turn, due_at_ms, id) as place
        from (select *, row_number() over (partition by endpoint_key, alone order by due_at_ms, id)
                        * case alone when 1 then 3 else 1 end as turn
                from due) as turned) as placed
     where place <= n
  ), taken as (
    update kmsg.live l set state = 'delivering', owner = $1, claim_no = $6, token = token + 1
      from picked where l.id = picked.id
    returning l.*
  )
  select taken.id, taken.kind,
         taken.attempts = 0 and taken.round = 1 and taken.repair_id is null as fresh, taken.token, taken.attempts, taken.endpoint_key,
         coalesce(event.tenant_id, batch.tenant_id) as tenant_id, event.id as event_id,
         event.type as event_type, coalesce(event.accepted_at_ms, batch.sealed_at_ms) as at_ms,
         coalesce(event.body, batch.body) as body, batch.members, taken.due_at_ms,
         taken.expires_at_ms, taken.order_key is not null as ordered,
         null::bigint as head_ms,
         case when event.key is null then taken.event_key end as older_event_key
    from taken left join lateral (${eventWithin('taken.event_key', days)}) as event on true
               left join kmsg.batch on batch.id = taken.id
  union all
  select null, null, null, null, null, range.endpoint_key, null, null, null, null, null, null, null, null,
         null, (
      select due_at_ms from kmsg.live x
       where x.endpoint_key = range.endpoint_key and x.alone = range.alone
         and owner is null and batch_id is null and due_at_ms >= range.floor_ms
         and due_at_ms < ${behindMs}
         and id not in (select id from picked)
       order by due_at_ms limit 1), null
    from range
  union all
  select 'me', null, null, id::int, null, null, null, null, null,
         (select number from kmsg.endpoints_version), null, null, null, null, null, null, null
    from me`

interface ClaimedRow {
  /** `me`: this process has its lease, and `at_ms` is the version of the endpoints. */
  readonly id: string | null
  readonly kind: 'single' | 'batch' | null
  readonly fresh: boolean
  readonly token: number
  readonly attempts: number
  readonly endpoint_key: string
  readonly tenant_id: string
  readonly event_id: string
  readonly event_type: string
  readonly at_ms: number
  readonly body: Uint8Array | null
  readonly members: string | null
  readonly due_at_ms: number
  readonly expires_at_ms: number | null
  readonly ordered: boolean | null
  readonly head_ms: number | null
  /** Of a single delivery whose event was not found in these days. */
  readonly older_event_key: string | null
}

/** A claim whose answer was lost: nobody sends what it took, so it is as if it never happened. */
const releaseClaims = `
  update kmsg.live set state = 'waiting', owner = null, claim_no = null
   where owner = $1 and claim_no = any($2::bigint[])`

/** A statement may still be on its way when the connection is given up: looked for so long. */
const lookForLostMs = 60_000

interface LostClaim {
  readonly owner: number
  readonly claimNo: number
  readonly untilMs: number
  /** Since its answer was lost; from then on the poll of every second looks, and no claim waits. */
  isLookedFor: boolean
}

export class Claims {
  readonly #session: Session
  #lastNo = 0
  #lost: LostClaim[] = []
  /** Lanes that are being asked for, one entry for each claim. */
  readonly #asked = new Set<readonly LaneRoom[]>()
  /** Lanes asked for since somebody began to read the heads. */
  #askedSince: Set<string> = new Set()

  constructor(session: Session) {
    this.#session = session
  }

  async claim(rooms: readonly LaneRoom[], nowMs: number): Promise<ClaimResult> {
    const { worker, floors: known } = this.#session
    if (this.#lost.some(({ isLookedFor }) => !isLookedFor)) await this.releaseLost()
    this.#lastNo += 1
    const claimNo = this.#lastNo
    const { id: owner } = worker
    this.#asked.add(rooms)
    for (const { endpointKey } of rooms) this.#askedSince.add(endpointKey)
    try {
      const floors = rooms.map((room) => known.of(room, nowMs))
      const startMs = performance.now()
      const result = await claimFor(this.#session, rooms, floors, claimNo, nowMs)
      known.took(performance.now() - startMs)
      // Taken over while its answer was on its way: others send it.
      if (owner !== worker.id) throw worker.lost(owner)
      return result
    } catch (error) {
      const untilMs = performance.now() + lookForLostMs
      this.#lost.push({ owner, claimNo, untilMs, isLookedFor: false })
      throw error
    } finally {
      this.#asked.delete(rooms)
    }
  }

  /** @returns the lanes that claims are asked for from now on or by now, until this is called again */
  noteAsked(): ReadonlySet<string> {
    this.#askedSince = new Set([...this.#asked].flat().map(({ endpointKey }) => endpointKey))
    return this.#askedSince
  }

  /** Gives back what claims have taken whose answer never came. */
  async releaseLost(): Promise<void> {
    if (this.#lost.length === 0) return
    const { database, worker } = this.#session
    const numbers = this.#lost.filter(({ owner }) => owner === worker.id)
    await database.write(async (connection) => {
      const lost = numberArray(numbers.map(({ claimNo }) => claimNo))
      await connection.run(releaseClaims, worker.id, lost)
      await endCancelled(this.#session, connection, null)
    })
    for (const lost of numbers) lost.isLookedFor = true
    const nowMs = performance.now()
    // Others may have been lost meanwhile.
    this.#lost = this.#lost.filter(
      (lost) => lost.owner === worker.id && (!lost.isLookedFor || lost.untilMs > nowMs),
    )
  }
}

async function claimFor(
  session: Session,
  rooms: readonly LaneRoom[],
  floors: readonly number[],
  claimNo: number,
  nowMs: number,
): Promise<ClaimResult> {
  const { database, worker } = session
  const { id: owner } = worker
  const found = await database.read((connection) =>
    connection.all<ClaimedRow>(
      claimRooms(recentDays(nowMs)),
      owner,
      textArray(rooms.map(({ endpointKey }) => endpointKey)),
      numberArray(rooms.map(({ limit }) => limit)),
      booleanArray(rooms.map(({ batch }) => batch !== null)),
      nowMs,
      claimNo,
      numberArray(floors),
    ),
  )
  const rows = await withOlderEvents(database, found)
  const me = rows.find(({ id }) => id === 'me')
  if (me === undefined) throw worker.lost(owner)
  session.sawVersion(me.at_ms)
  const taken = rows.filter(({ kind }) => kind !== null)
  taken.sort((a, b) => a.due_at_ms - b.due_at_ms)
  const claims = taken.map((row) => toClaim(row, nowMs, database.location))
  const headMs = new Map<string, number | null>(rooms.map(({ endpointKey }) => [endpointKey, null]))
  const note = (key: string, atMs: number | null) =>
    headMs.set(key, earlier(headMs.get(key) ?? null, atMs))
  for (const { id, endpoint_key: key, head_ms: atMs } of rows) if (id === null) note(key, atMs)
  for (const [i, room] of rooms.entries()) {
    if (room.batch === null) continue
    const used = claims.filter(({ endpointKey }) => endpointKey === room.endpointKey).length
    const rest = { ...room, limit: room.limit - used, batch: room.batch }
    const sealed = await sealBatches(session, rest, floors[i] ?? 0, claimNo, nowMs)
    claims.push(...sealed.claims)
    note(room.endpointKey, sealed.nextSealAtMs)
  }
  return {
    claims,
    heads: [...headMs].map(([endpointKey, dueAtMs]) => ({ endpointKey, dueAtMs })),
  }
}

/** Few are of older days, and mostly none: those cost a second round trip. */
async function withOlderEvents(
  database: Database,
  rows: readonly ClaimedRow[],
): Promise<readonly ClaimedRow[]> {
  const keys = rows.flatMap(({ older_event_key: key }) => key ?? [])
  if (keys.length === 0) return rows
  const events = await database.read((connection) => readEvents(connection, keys))
  return rows.map((row) => {
    const event = events.get(row.older_event_key ?? '')
    if (event === undefined) return row
    const { tenant_id, id: event_id, type: event_type, accepted_at_ms: at_ms, body } = event
    return { ...row, tenant_id, event_id, event_type, at_ms, body }
  })
}

function toClaim(row: ClaimedRow, takenAtMs: number, location: string): Claim {
  const { id, body } = row
  if (id === null || body === null) throw bodyMissing(row.id ?? '', location)
  const isBatch = row.kind === 'batch'
  return {
    deliveryId: id,
    endpointKey: row.endpoint_key,
    tenantId: fromText(row.tenant_id),
    token: row.token,
    attempts: row.attempts,
    isFresh: row.fresh,
    eventId: isBatch ? id : fromText(row.event_id),
    eventType: isBatch ? 'batch' : fromText(row.event_type),
    acceptedAtMs: row.at_ms,
    body,
    members: row.members === null ? null : membersFromJson(row.members),
    takenAtMs,
    expiresAtMs: row.expires_at_ms ?? undefined,
    ordered: row.ordered === true ? true : undefined,
  }
}

function earlier(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b
  return Math.min(a, b)
}

/** Steps from lane to lane through the index: the cost is the number of lanes, not of rows. */
const laneHeads = `
  with recursive lane (endpoint_key) as (
    select min(endpoint_key) from kmsg.live where owner is null and batch_id is null
    union all
    select (select min(endpoint_key) from kmsg.live
             where owner is null and batch_id is null and endpoint_key > lane.endpoint_key)
      from lane where lane.endpoint_key is not null)
  select endpoint_key, least(
           (select min(due_at_ms) from kmsg.live
             where endpoint_key = lane.endpoint_key and alone = 0
               and owner is null and batch_id is null),
           (select min(due_at_ms) from kmsg.live
             where endpoint_key = lane.endpoint_key and alone = 1 and due_at_ms < ${behindMs}
               and owner is null and batch_id is null)) as due_at_ms
    from lane where endpoint_key is not null`

export async function heads(connection: Connection): Promise<LaneHead[]> {
  const rows = await connection.all<{ endpoint_key: string; due_at_ms: number | null }>(laneHeads)
  return rows.map((row) => ({ endpointKey: row.endpoint_key, dueAtMs: row.due_at_ms }))
}
