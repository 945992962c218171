/**
 * One group of accepts, settlements and releases, in one transaction. Accepts come first, so that a
 * settlement that disables an endpoint leaves its fresh deliveries to the engine's cancelling, as it
 * does those accepted before.
 */
import type { Cancellation } from '../commit-records.ts'
import { insertAccepts } from './accept.ts'
import { memberCount } from './batch.ts'
import { cancelBatch, cancelSingle, dissolveMarked } from './cancel.ts'
import { closedReason, type Session } from './session.ts'
import { MustSettleSingly, writeSettlements } from './settle.ts'
import { ByteReader, type CommitOnWire, type CommitResultOnWire, releaseWidth } from './wire.ts'

/** The attempt never began: the token stays raised, nothing else of the claim remains. */
const release = `
  update live
     set state = 'waiting', owner = null, claim_no = null, due_at_ms = coalesce(?, due_at_ms)
   where id = ? and token = ? and state = 'delivering'
  returning kind, endpoint_key, cancel_reason`

/** The bench makes the disk slower with this: every commit then takes so much longer. */
const benchDelayMs = Number(process.env.KMSG_BENCH_COMMIT_DELAY_MS ?? 0)
const neverWoken = new Int32Array(new SharedArrayBuffer(4))

export function commit(session: Session, group: CommitOnWire, nowMs: number): CommitResultOnWire {
  const result = commitTogether(session, group, nowMs)
  if (benchDelayMs > 0) Atomics.wait(neverWoken, 0, 0, benchDelayMs)
  return result
}

function commitTogether(session: Session, group: CommitOnWire, nowMs: number): CommitResultOnWire {
  try {
    return session.connection.write(() => writeGroup(session, group, nowMs, true))
  } catch (error) {
    if (!(error instanceof MustSettleSingly)) throw error
    return session.connection.write(() => writeGroup(session, group, nowMs, false))
  }
}

function writeGroup(
  session: Session,
  group: CommitOnWire,
  nowMs: number,
  together: boolean,
): CommitResultOnWire {
  const bytes = new ByteReader(group.bytes)
  const ended: Cancellation[] = []
  const accepts = insertAccepts(session, group, bytes, nowMs, ended)
  const settlements = writeSettlements(session, group, bytes, together, ended)
  for (let i = 0; i < group.releases.length; i += releaseWidth) {
    giveBack(session, group.releases, i, nowMs, ended)
  }
  return { accepts, settlements, cancelled: ended.length === 0 ? null : ended }
}

function giveBack(
  session: Session,
  releases: CommitOnWire['releases'],
  i: number,
  nowMs: number,
  cancellations: Cancellation[],
): void {
  const { connection, tally } = session
  const [id, token] = [releases[i] as string, releases[i + 1] as number]
  const dueAtMs = releases[i + 2] as number | null
  const cancelled = releases[i + 3] as string | null
  const row = connection.get<ReleasedRow>(release, dueAtMs, id, token)
  if (row === undefined) return
  const isBatch = row.kind === 'batch'
  const deliveries = isBatch ? memberCount(session, id) : 1
  tally.add(deliveries, -deliveries)
  // Cancelled meanwhile, or of an endpoint that takes nothing any more: it must not wait for ever.
  const closed = cancelled ?? closedReason(session, row.endpoint_key)
  if (closed === null && isBatch && row.cancel_reason !== null) {
    dissolveMarked(session, id, nowMs)
    return
  }
  const reason = closed ?? row.cancel_reason
  if (reason === null) return
  const ids = isBatch ? cancelBatch(session, id, reason, nowMs) : [id]
  if (!isBatch) cancelSingle(session, id, reason, nowMs)
  for (const one of ids) cancellations.push({ id: one, reason })
}

interface ReleasedRow {
  readonly kind: string
  readonly endpoint_key: string
  readonly cancel_reason: string | null
}
