/**
 * One group of accepts, settlements and releases. Accepts and settlements are one statement each, on
 * connections of their own: an accept that waits for somebody's row must not hold up the outcomes.
 * They are not one transaction, and need not be: each can be repeated, and a group whose answer is
 * missing is repeated whole.
 */
import { WebhookError } from '../../model/errors.ts'
import type { Cancellation, CommitGroup, CommitResult, ReleaseRecord } from '../commit-records.ts'
import { commitAccepts } from './accept.ts'
import { cancelRows, endCancelled } from './cancel.ts'
import { closedReason, type Session } from './session.ts'
import { commitSettlements } from './settle.ts'
import { numberArray, textArray } from './text.ts'

/** The attempt never began: the token stays raised, nothing else of the claim remains. */
const release = `
  with given as materialized (
    select * from unnest($1::text[], $2::int[], $3::bigint[]) as given (id, token, due_at_ms)
  ), owned as materialized (
    select live.id from kmsg.live
     where state = 'delivering' and (id, token) in (select id, token from given)
     order by id for update
  ), released as (
    update kmsg.live
       set state = 'waiting', owner = null, claim_no = null,
           due_at_ms = coalesce(given.due_at_ms, live.due_at_ms)
      from given join owned on owned.id = given.id
     where live.id = given.id
    returning live.id, live.endpoint_key, live.due_at_ms, live.cancel_reason
  )
  select released.id, released.endpoint_key, released.due_at_ms, ${closedReason} as closed,
         released.cancel_reason is not null as marked
    from released left join kmsg.endpoint on endpoint.key = released.endpoint_key`

export async function commit(session: Session, group: CommitGroup): Promise<CommitResult> {
  const parts = await Promise.allSettled([
    commitAccepts(session, group.accepts),
    commitSettlements(session, group.settlements),
    giveBack(session, group.releases),
  ])
  for (const part of parts) {
    if (part.status !== 'rejected') continue
    const isStored = group.accepts.length > 0 && parts[0].status === 'fulfilled'
    throw isStored ? partly(part.reason) : part.reason
  }
  const [accepts, settlements, released] = parts as [
    PromiseFulfilledResult<Awaited<ReturnType<typeof commitAccepts>>>,
    PromiseFulfilledResult<Awaited<ReturnType<typeof commitSettlements>>>,
    PromiseFulfilledResult<Cancellation[]>,
  ]
  const cancelled = [...accepts.value.cancelled, ...settlements.value.cancelled, ...released.value]
  return {
    accepts: accepts.value.results,
    settlements: settlements.value.results,
    ...(cancelled.length > 0 && { cancelled }),
  }
}

/** Its events are stored and this process owns them: nobody may be told that nothing was written. */
function partly(reason: unknown): unknown {
  if (!(reason instanceof WebhookError)) return reason
  return new WebhookError(
    'STORAGE_UNAVAILABLE',
    `Expected outcomes to be written together with new events, and only the events were. ${reason.message}`,
    { cause: reason },
  )
}

async function giveBack(
  session: Session,
  releases: readonly ReleaseRecord[],
): Promise<Cancellation[]> {
  if (releases.length === 0) return []
  const nowMs = session.nowMs()
  const { rows, ended } = await session.database.write(async (connection) => {
    const rows = await connection.all<ReleasedRow>(
      release,
      textArray(releases.map(({ deliveryId }) => deliveryId)),
      numberArray(releases.map(({ token }) => token)),
      numberArray(releases.map(({ dueAtMs }) => dueAtMs && Math.round(dueAtMs))),
    )
    const cancelled = new Map(releases.map((one) => [one.deliveryId, one.cancelled]))
    // Cancelled meanwhile, or of an endpoint that takes nothing any more: it must not wait for ever.
    const idsOf = new Map<string, string[]>()
    for (const { id, closed } of rows) {
      const reason = cancelled.get(id) ?? closed
      if (reason === null) continue
      const ids = idsOf.get(reason)
      if (ids === undefined) idsOf.set(reason, [id])
      else ids.push(id)
    }
    const ended: Cancellation[] = []
    for (const [reason, ids] of idsOf) {
      const some = await cancelRows(session, connection, ids, reason, nowMs)
      for (const id of some) ended.push({ id, reason })
    }
    if (rows.some(({ marked }) => marked)) {
      ended.push(...(await endCancelled(session, connection, nowMs)))
    }
    return { rows, ended }
  })
  for (const row of rows) session.floors.gaveBack(row.endpoint_key, row.due_at_ms)
  session.hints.due(rows.map((row) => row.endpoint_key))
  return ended
}

interface ReleasedRow {
  readonly id: string
  readonly endpoint_key: string
  readonly due_at_ms: number
  readonly closed: string | null
  readonly marked: boolean
}
