/**
 * Events in the transaction of the caller. His transaction may be long and may be rolled back, so it
 * leaves one row and nothing else: no matching that would be old by the time it commits, no lease that
 * would be over, no key and no counter that others would wait for. Once it has committed, any process
 * takes the row over as an accept of its own.
 */
import { describeValue, isTransientStorageError, WebhookError } from '../../model/errors.ts'
import type { AcceptRecord, IntakeRecord, IntakeResult } from '../commit-records.ts'
import { insert } from './accept.ts'
import type { Queryable } from './connection.ts'
import { channelOf, toPayload } from './hints.ts'
import type { Session } from './session.ts'
import { fromText, textArray, toText } from './text.ts'

/** Heard when the caller's transaction commits, and not before. */
const bring = `
  with brought as (
    insert into kmsg.intake (key, tenant_id, event_id, type, accepted_at_ms, content_hash, body,
                             deliver_at_ms, expires_at_ms)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9))
  select pg_notify($10, $11)`

const take = `
  select key, tenant_id, event_id, type, accepted_at_ms, content_hash, body, deliver_at_ms,
         expires_at_ms
    from kmsg.intake
   where key <> all($2::text[])
   order by key limit $1 for update skip locked`

const drop = 'delete from kmsg.intake where key = any($1::text[])'

/** The caller's client is nobody of this process. */
const caller = 0

export async function acceptWithin(
  { database: { schema } }: Session,
  transaction: unknown,
  event: IntakeRecord,
): Promise<void> {
  requireClient(transaction)
  await transaction.query({
    text: schema.qualify(bring),
    values: [
      event.key,
      toText(event.tenantId),
      toText(event.id),
      toText(event.type),
      Math.round(event.acceptedAtMs),
      event.contentHash,
      event.body,
      roundOrNull(event.deliverAtMs),
      roundOrNull(event.expiresAtMs),
      channelOf(schema.name),
      toPayload(caller, { intake: true }),
    ],
  })
}

function requireClient(client: unknown): asserts client is Queryable {
  const { query, release, totalCount } = (client ?? {}) as Record<string, unknown>
  // A pool would run the statement on a connection of its own, outside of the transaction.
  if (typeof query === 'function' && !(totalCount !== undefined && release === undefined)) return
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected \`transaction\` to be a client of \`pg\` with a transaction open, got ${describeValue(client)}; take one with \`await pool.connect()\`, or wrap that of a library with fromDrizzle(), fromKysely() or fromPrisma().`,
  )
}

/** One that could not be taken in is tried again after so long: a person may have mended it. */
const refusedForMs = 600_000

/** By the session, so that polling does not see what is left lying. */
export function refusedKeys({ refusedIntake, nowMs }: Session): string {
  const now = nowMs()
  for (const [key, untilMs] of refusedIntake) if (untilMs <= now) refusedIntake.delete(key)
  return textArray([...refusedIntake.keys()])
}

/** One that cannot be taken in must not hold up the others: the rest is halved until it is alone. */
export async function takeIntake(
  session: Session,
  match: (event: IntakeRecord) => AcceptRecord,
  limit: number,
): Promise<IntakeResult[]> {
  const tried: IntakeRecord[] = []
  try {
    return await takeTogether(session, match, limit, tried)
  } catch (error) {
    const [refused] = tried
    if (isTransientStorageError(error) || refused === undefined) throw error
    if (tried.length === 1) {
      session.refusedIntake.set(refused.key, session.nowMs() + refusedForMs)
      return [{ refused, error: error instanceof Error ? error : new Error(String(error)) }]
    }
    const half = Math.ceil(tried.length / 2)
    const first = await takeIntake(session, match, half)
    return [...first, ...(await takeIntake(session, match, limit - half))]
  }
}

/** @param tried what it was about, when it fails */
async function takeTogether(
  session: Session,
  match: (event: IntakeRecord) => AcceptRecord,
  limit: number,
  tried: IntakeRecord[],
): Promise<IntakeResult[]> {
  const { database } = session
  let committed = () => {}
  const taken = await database.write(async (connection) => {
    const rows = (await connection.all<IntakeRow>(take, limit, refusedKeys(session))).map(fromRow)
    tried.splice(0, tried.length, ...rows)
    if (rows.length === 0) return []
    const records = rows.map((row) => match(row))
    const accepted = await insert(session, connection, records)
    const results = records.map((record, i) => ({
      record,
      result: accepted.results[i] ?? ({ kind: 'stale' } as const),
    }))
    const gone = results.filter(({ result }) => result.kind !== 'stale')
    await connection.run(drop, textArray(gone.map(({ record }) => record.event.key)))
    committed = accepted.committed
    return results
  })
  committed()
  return taken
}

interface IntakeRow {
  readonly key: string
  readonly tenant_id: string
  readonly event_id: string
  readonly type: string
  readonly accepted_at_ms: number
  readonly content_hash: Uint8Array
  readonly body: Uint8Array
  readonly deliver_at_ms: number | null
  readonly expires_at_ms: number | null
}

function roundOrNull(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms)
}

function fromRow(row: IntakeRow): IntakeRecord {
  return {
    key: row.key,
    tenantId: fromText(row.tenant_id),
    id: fromText(row.event_id),
    type: fromText(row.type),
    acceptedAtMs: row.accepted_at_ms,
    contentHash: row.content_hash,
    body: row.body,
    deliverAtMs: row.deliver_at_ms ?? undefined,
    expiresAtMs: row.expires_at_ms ?? undefined,
  }
}
