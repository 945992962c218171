/**
 * Deliveries of events too wide for one transaction: the matched endpoints were committed as one
 * row, and become deliveries some at a time, between commits that nobody has to wait for.
 */
import type { Cancellation, DeliveryTerms, FanOutResult } from '../commit-records.ts'
import { insertCancelled, insertLiveWithTerms } from './accept.ts'
import { closedReason, type Session } from './session.ts'
import { SlotsToWrite } from './slot.ts'

const oldestFanOut =
  'select event_key, targets, total, position from fan_out order by event_key limit 1'

const insertWaiting = `
  insert into live (id, kind, alone, event_key, endpoint_key, state, token, attempts, due_at_ms,
                    round, created_at_ms)
  values (?1, 'single', 0, ?2, ?3, 'waiting', 0, 0, ?4, 1,
          (select accepted_at_ms from event where key = ?2))`

const acceptedAt = 'select accepted_at_ms as at_ms from event where key = ?'

const moveOn = 'update fan_out set position = ? where event_key = ?'
const finish = 'delete from fan_out where event_key = ?'

type Target = readonly [
  deliveryId: string,
  endpointKey: string,
  dueAtMs: number,
  terms?: DeliveryTerms | null,
  ended?: string | null,
]

export function fanOut(session: Session, limit: number, nowMs: number): FanOutResult {
  const { connection } = session
  return connection.write(() => {
    const endpointKeys = new Set<string>()
    const cancelled: Cancellation[] = []
    const slots = new SlotsToWrite(session)
    let room = limit
    while (room > 0) {
      const wide = connection.get<FanOutRow>(oldestFanOut)
      if (wide === undefined) break
      const targets = (JSON.parse(wide.targets) as Target[]).slice(
        wide.position,
        wide.position + room,
      )
      for (const target of targets) {
        slots.add(target[1], target[0])
        const reason = create(session, wide.event_key, target, nowMs)
        if (reason === null) endpointKeys.add(target[1])
        else cancelled.push({ id: target[0], reason })
      }
      const position = wide.position + targets.length
      if (position === wide.total) connection.run(finish, wide.event_key)
      else connection.run(moveOn, position, wide.event_key)
      room -= targets.length
    }
    slots.write()
    const more = connection.get(oldestFanOut) !== undefined
    return { endpointKeys: [...endpointKeys], cancelled, more }
  })
}

interface FanOutRow {
  readonly event_key: string
  readonly targets: string
  readonly total: number
  readonly position: number
}

/** @returns why the delivery does not wait: it has ended; null when it does */
function create(
  session: Session,
  eventKey: string,
  [id, endpointKey, dueAtMs, terms, ended]: Target,
  nowMs: number,
): string | null {
  const closed = closedReason(session, endpointKey) ?? ended ?? null
  if (closed !== null) {
    session.connection.run(insertCancelled, id, eventKey, endpointKey, closed, nowMs, nowMs)
    return closed
  }
  if (!terms) {
    session.connection.run(insertWaiting, id, eventKey, endpointKey, dueAtMs)
  } else {
    const createdAtMs = session.connection.get<{ at_ms: number }>(acceptedAt, eventKey)?.at_ms ?? 0
    const fresh = { id, eventKey, endpointKey, dueAtMs, createdAtMs }
    insertLiveWithTerms(session, terms, false, fresh)
  }
  session.tally.add(1, 0)
  return null
}
