/**
 * The clock was ahead when this was last written, and is right now. What waits would wait until the
 * wrong time comes, a day perhaps: its delay is kept instead, from now on. What was to be sent at a
 * time of its own keeps that time. While a process lives its clock never goes back, so this is asked
 * at open; whoever still runs ahead then sends some retries before their delay is over.
 */

import { behindMs } from '../../model/delivery.ts'
import { eventKeyFloor } from '../../model/ids.ts'
import type { Database } from './connection.ts'

/** Clocks differ by less. */
const surelyAheadMs = 60_000

const isSetBack = `
  select exists (select from kmsg.event where key >= $1)
      or exists (select from kmsg.rollup where endpoint_key = '' and hour_ms > $2) as is_set_back`

/** Since its last attempt, or since it was accepted. */
const keepDelays = `
  update kmsg.live set due_at_ms = $1::bigint + greatest(0, due_at_ms - since_ms)
    from (select id as waiting_id, coalesce((
                   select max(started_at_ms + latency_ms)::bigint from kmsg.attempt
                    where delivery_id = live.id), created_at_ms) as since_ms
            from kmsg.live
           where owner is null and batch_id is null and due_at_ms > $1 and due_at_ms < ${behindMs}
             and (attempts > 0 or alone = 0 or due_at_ms = created_at_ms)) as waiting
   where id = waiting_id and since_ms > $1 and owner is null`

const endHolds = `
  update kmsg.endpoint_flow set held_until_ms = $1, changed = pg_current_xact_id()
   where held_until_ms > $1`
const probeNow = `
  update kmsg.endpoint_flow set breaker_until_ms = $1, changed = pg_current_xact_id()
   where breaker_until_ms > $1`
const stepRepairsNow = `
  update kmsg.repair set next_step_at_ms = $1 where state = 'running' and next_step_at_ms > $1`

export async function keepDelaysOfWrongClock(database: Database, nowMs: number): Promise<void> {
  const found = await database.read((connection) =>
    connection.get<{ is_set_back: boolean }>(
      isSetBack,
      eventKeyFloor(nowMs + surelyAheadMs),
      nowMs,
    ),
  )
  if (found?.is_set_back !== true) return
  await database.write(async (connection) => {
    for (const sql of [keepDelays, endHolds, probeNow, stepRepairsNow]) {
      await connection.run(sql, nowMs)
    }
  })
}
