/**
 * One group of accepts, settlements and releases, in one transaction. Accepts come first, so that a
 * settlement that disables an endpoint leaves its fresh deliveries to the engine's cancelling, as it
 * does those accepted before.
 */
import { insertAccepts } from './accept.ts'
import { memberCount } from './batch.ts'
import { closedReason, type Session } from './session.ts'
import { writeSettlements } from './settle.ts'
import { ByteReader, type CommitOnWire, type CommitResultOnWire, releaseWidth } from './wire.ts'

/** The attempt never began: the token stays raised, nothing else of the claim remains. */
const release = `
  update live
     set state = 'waiting', owner = null, claim_no = null, due_at_ms = ?
   where id = ? and token = ? and state = 'delivering'
  returning kind, endpoint_key`

/** A delivery that is given back when its endpoint takes nothing any more. */
const releaseToCancelled = `
  insert into done (id, event_key, endpoint_key, state, reason, round, attempts, token,
                    batch_id, created_at_ms, settled_at_ms)
  select id, event_key, endpoint_key, 'cancelled', ?, round, attempts, token,
         null, created_at_ms, ?
    from live where id = ?`

export function commit(session: Session, group: CommitOnWire, nowMs: number): CommitResultOnWire {
  return session.connection.write(() => {
    const bytes = new ByteReader(group.bytes)
    const accepts = insertAccepts(session, group, bytes, nowMs)
    const settlements = writeSettlements(session, group, bytes)
    for (let i = 0; i < group.releases.length; i += releaseWidth) {
      giveBack(session, group.releases, i, nowMs)
    }
    return { accepts, settlements }
  })
}

function giveBack(
  session: Session,
  releases: CommitOnWire['releases'],
  i: number,
  nowMs: number,
): void {
  const { connection, tally } = session
  const [id, token, dueAtMs] = [releases[i] as string, releases[i + 1] as number, releases[i + 2]]
  const row = connection.get<{ kind: string; endpoint_key: string }>(
    release,
    dueAtMs as number,
    id,
    token,
  )
  if (row === undefined) return
  if (row.kind === 'batch') {
    const members = memberCount(session, id)
    tally.add(members, -members)
    return
  }
  const closed = closedReason(session, row.endpoint_key)
  if (closed === null) {
    tally.add(1, -1)
    return
  }
  connection.run(releaseToCancelled, closed, nowMs, id)
  connection.run('delete from live where id = ?', id)
  tally.add(0, -1)
}
