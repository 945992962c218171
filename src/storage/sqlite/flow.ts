/**
 * The flow of endpoints: holds, breakers and send times. A row of its own, so that what changes often
 * does not touch the endpoint.
 */
import { type Breaker, type EndpointFlow, freeFlow } from '../../model/flow.ts'
import { type BreakerChange, farthestMs, type SendTimes, type SendTimesAsk } from '../flows.ts'
import type { SqlValue } from './driver.ts'
import type { Session } from './session.ts'

const readFlows = 'select * from endpoint_flow order by endpoint_key'
const readFlow = 'select * from endpoint_flow where endpoint_key = ?'

/** Compare and set. Nothing stored is epoch 0. */
const setBreaker = `
  insert into endpoint_flow (endpoint_key, breaker, breaker_epoch, breaker_until_ms, openings)
  select ?1, ?2, ?3, ?4, ?5
   where ?3 = 1 or exists (select 1 from endpoint_flow where endpoint_key = ?1)
  on conflict (endpoint_key) do update
     set breaker = excluded.breaker, breaker_epoch = excluded.breaker_epoch,
         breaker_until_ms = excluded.breaker_until_ms, openings = excluded.openings
   where breaker_epoch = excluded.breaker_epoch - 1`

/** Never shorter: two answers can ask for different times. */
const hold = `
  insert into endpoint_flow (endpoint_key, held_until_ms) values (?, ?)
  on conflict (endpoint_key) do update
     set held_until_ms = max(held_until_ms, excluded.held_until_ms)`

/**
 * The first free time is not before now, and now where it is further ahead than any that is handed
 * out: the clock was set back, or another limit was in force.
 */
const takeTimes = `
  insert into endpoint_flow (endpoint_key, next_send_at_ms) values (?1, ?2 + ?3)
  on conflict (endpoint_key) do update
     set next_send_at_ms = ?3 + case when next_send_at_ms > ?5 then ?2
                                     else max(next_send_at_ms, ?2) end
   where next_send_at_ms <= ?4 or next_send_at_ms > ?5
  returning next_send_at_ms`

const readFreeTime = 'select next_send_at_ms from endpoint_flow where endpoint_key = ?'

const freshTimes = 'update endpoint_flow set next_send_at_ms = 0 where endpoint_key = ?'
/** A later epoch, so that nobody goes by an earlier breaker, or by the hold that belonged to it. */
const lift = `
  update endpoint_flow
     set held_until_ms = 0, breaker = 'closed', breaker_epoch = breaker_epoch + 1,
         breaker_until_ms = 0, openings = 0
   where endpoint_key = ?`

const dropFlow = 'delete from endpoint_flow where endpoint_key = ?'

interface FlowRow {
  readonly endpoint_key: string
  readonly held_until_ms: number
  readonly breaker: Breaker['state']
  readonly breaker_epoch: number
  readonly breaker_until_ms: number
  readonly openings: number
  readonly next_send_at_ms: number
}

export function loadFlows({ connection }: Session): EndpointFlow[] {
  return connection.all<FlowRow>(readFlows).map(fromRow)
}

export function findFlow({ connection }: Session, key: string): EndpointFlow | null {
  const row = connection.get<FlowRow>(readFlow, key)
  return row === undefined ? null : fromRow(row)
}

export function changeBreaker(session: Session, key: string, next: Breaker): BreakerChange {
  const { connection } = session
  const { state, epoch, untilMs, openings } = next
  return connection.write(() => {
    const rows = connection.run(setBreaker, key, state, epoch, Math.round(untilMs), openings)
    return { isChanged: rows > 0, flow: findFlow(session, key) ?? freeFlow(key) }
  })
}

export function writeHold({ connection }: Session, key: string, untilMs: number): void {
  connection.run(hold, key, Math.round(untilMs))
}

export function takeSendTimes(
  { connection }: Session,
  asks: readonly SendTimesAsk[],
  nowMs: number,
  notAfterMs: number,
): SendTimes[] {
  const get = (sql: string, ...values: SqlValue[]) =>
    connection.get<{ next_send_at_ms: number }>(sql, ...values)?.next_send_at_ms
  return connection.write(() =>
    asks.map((ask) => {
      const { endpointKey, count, intervalMs } = ask
      const lengthMs = count * intervalMs
      const tooFarMs = nowMs + farthestMs(lengthMs)
      const endMs = get(takeTimes, endpointKey, nowMs, lengthMs, notAfterMs, tooFarMs)
      if (endMs !== undefined) return { ...ask, firstAtMs: endMs - lengthMs }
      return { ...ask, count: 0, firstAtMs: get(readFreeTime, endpointKey) ?? nowMs }
    }),
  )
}

/** Under another rate limit the times handed out so far mean nothing. */
export function restartSendTimes({ connection }: Session, key: string): void {
  connection.run(freshTimes, key)
}

/** Neither hold nor breaker keeps anything back any more. */
export function liftFlow({ connection }: Session, key: string): void {
  connection.run(lift, key)
}

export function removeFlow({ connection }: Session, key: string): void {
  connection.run(dropFlow, key)
}

function fromRow(row: FlowRow): EndpointFlow {
  return {
    endpointKey: row.endpoint_key,
    heldUntilMs: row.held_until_ms,
    breaker: {
      state: row.breaker,
      epoch: row.breaker_epoch,
      untilMs: row.breaker_until_ms,
      openings: row.openings,
    },
    nextSendAtMs: row.next_send_at_ms,
  }
}
