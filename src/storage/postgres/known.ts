/** Events whose ids were there before: whose they are, and whether they say the same. */
import { WebhookError } from '../../model/errors.ts'
import { deliveryIdRange } from '../../model/ids.ts'
import type { AcceptRecord, AcceptResult } from '../commit-records.ts'
import type { Connection } from './connection.ts'
import { eventOf } from './days.ts'
import { textArray } from './text.ts'

const knownKeys = `
  select given.n::int as n, known.key, known.content_hash, known.accepted_at_ms, event.body
    from unnest($1::text[], $2::text[]) with ordinality as given (tenant_id, id, n)
    join kmsg.event_key as known on known.tenant_id = given.tenant_id and known.id = given.id
    left join lateral (${eventOf('known.key')}) as event on true`

const deliveryIdsOf = `
  select id from kmsg.live where id >= $1 and id < $2
  union all select id from kmsg.done where id >= $1 and id < $2 order by id`

interface KnownKey {
  readonly n: number
  readonly key: string
  readonly content_hash: Uint8Array
  readonly accepted_at_ms: number
  readonly body: Uint8Array | null
}

/** @param fresh keys of those that were stored just now
 * @returns what becomes of each of a group of which some were not new */
export async function findKnown(
  connection: Connection,
  accepts: readonly AcceptRecord[],
  fresh: ReadonlySet<string>,
  version: number,
): Promise<AcceptResult[]> {
  const unsure = accepts.filter(({ event }) => !fresh.has(event.key))
  const rows = await connection.all<KnownKey>(
    knownKeys,
    textArray(unsure.map(({ event }) => event.tenantId)),
    textArray(unsure.map(({ event }) => event.id)),
  )
  const known = new Map(rows.map((row) => [unsure[row.n - 1]?.event.key, row]))
  const results: AcceptResult[] = []
  for (const record of accepts) {
    const { event, endpointsVersion: seen } = record
    const found = known.get(event.key)
    if (fresh.has(event.key) || found?.key === event.key) results.push({ kind: 'stored' })
    else if (found !== undefined) results.push(await duplicate(connection, record, found))
    else if (seen !== null && seen < version) results.push({ kind: 'stale' })
    else throw forgottenMeanwhile(event.id)
  }
  return results
}

async function duplicate(
  connection: Connection,
  { event }: AcceptRecord,
  known: KnownKey,
): Promise<AcceptResult> {
  const { from, to } = deliveryIdRange(known.key)
  const ids = await connection.all<{ id: string }>(deliveryIdsOf, from, to)
  return {
    kind: 'duplicate',
    eventKey: known.key,
    acceptedAtMs: known.accepted_at_ms,
    sameContent: Buffer.compare(known.content_hash, event.contentHash) === 0,
    body: known.body,
    isErased: known.content_hash.length === 0,
    deliveryIds: ids.map(({ id }) => id),
  }
}

/** Retention took the id between two statements: the same group again will store it. */
function forgottenMeanwhile(id: string): WebhookError {
  return new WebhookError(
    'STORAGE_UNAVAILABLE',
    `Expected event id ${JSON.stringify(id)} to be there or to be free; it was forgotten at this moment, dispatch it again.`,
  )
}
