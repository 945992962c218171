/**
 * The clock was ahead when this was last written, and is right now. What waits would wait until the
 * wrong time comes, a day perhaps: its delay is kept instead, from now on. What was to be sent at a
 * time of its own keeps that time. While a process lives its clock never goes back, so this is asked
 * at open.
 */

import { behindMs } from '../../model/delivery.ts'
import { eventKeyFloor } from '../../model/ids.ts'
import type { Connection } from './connection.ts'

/** Clocks differ by less. */
const surelyAheadMs = 60_000

const isSetBack = `
  select exists (select 1 from event where key >= ?1)
      or exists (select 1 from rollup where endpoint_key = '' and hour_ms > ?2) as is_set_back`

/** Since its last attempt, or since it was accepted. */
const keepDelays = `
  update live set due_at_ms = ?1 + max(0, due_at_ms - since_ms)
    from (select id as waiting_id, coalesce((
                   select cast(max(started_at_ms + latency_ms) as integer) from attempt
                    where delivery_id = live.id), created_at_ms) as since_ms
            from live
           where owner is null and batch_id is null and due_at_ms > ?1 and due_at_ms < ${behindMs}
             and (attempts > 0 or alone = 0 or due_at_ms = created_at_ms)) as waiting
   where id = waiting_id and since_ms > ?1`

const endHolds = 'update endpoint_flow set held_until_ms = ?1 where held_until_ms > ?1'
const probeNow = `
  update endpoint_flow set breaker_until_ms = ?1 where breaker_until_ms > ?1`
const stepRepairsNow = `
  update repair set next_step_at_ms = ?1 where state = 'running' and next_step_at_ms > ?1`

export function keepDelaysOfWrongClock(connection: Connection, nowMs: number): void {
  const found = connection.get<{ is_set_back: number }>(
    isSetBack,
    eventKeyFloor(nowMs + surelyAheadMs),
    nowMs,
  )
  if (found?.is_set_back !== 1) return
  for (const sql of [keepDelays, endHolds, probeNow, stepRepairsNow]) connection.run(sql, nowMs)
}
