/**
 * Erasure of what callers' transactions have brought and nobody has taken in yet. Whoever is taking it
 * in is waited for: it is an event like any other then.
 */
import type { EraseSelection } from '../upkeep.ts'
import type { Connection } from './connection.ts'
import { textArray, toText } from './text.ts'

/** What is left is the skeleton of an event that nobody got. */
const eraseBrought = `
  with gone as (
    delete from kmsg.intake
     where ($1::text is null or tenant_id = $1) and ($2::text[] is null or event_id = any($2))
       and ($3::bigint is null or accepted_at_ms < $3)
    returning key, tenant_id, event_id, type, accepted_at_ms
  ), known as (
    insert into kmsg.event_key (tenant_id, id, key, content_hash, accepted_at_ms)
    select tenant_id, event_id, key, ''::bytea, accepted_at_ms from gone order by tenant_id, event_id
    on conflict do nothing
    returning key
  )
  insert into kmsg.event (key, tenant_id, id, type, accepted_at_ms, matched, erased_at_ms, body)
  select key, tenant_id, event_id, type, accepted_at_ms, 0, $4, null
    from gone where key in (select key from known)`

/**
 * @param ids those of the selection to be erased now; null when it has none
 * @returns how many are erased
 */
export async function eraseIntake(
  connection: Connection,
  selection: EraseSelection,
  ids: readonly string[] | null,
  nowMs: number,
): Promise<number> {
  const { tenantId } = selection
  return await connection.run(
    eraseBrought,
    tenantId === null ? null : toText(tenantId),
    ids && textArray(ids),
    selection.kind === 'before' ? Math.round(selection.beforeMs) : null,
    nowMs,
  )
}
