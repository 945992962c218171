/**
 * What a repair may be about, in the order in which the events came. A page looks at a bounded number
 * of rows, like a page of a list.
 */
import { deliveryIdRange, eventKeyFloor } from '../../model/ids.ts'
import type { Candidate } from '../../model/repair.ts'
import { type CandidatePage, type CandidateQuery, cutOff } from '../repairs.ts'
import {
  type CandidateEventRow,
  type CandidateRow,
  candidateOfEvent,
  candidatePage,
} from '../rows.ts'
import type { Connection } from './connection.ts'
import { doneColumns, doneJoins, liveColumns, liveJoins } from './read.ts'
import type { Session } from './session.ts'
import { nextSlot, slotEnd } from './slot.ts'
import { fromText, textArray, toText } from './text.ts'

/** A page that has to pass over many rows ends with the second it is in after so long. */
const msPerPage = 5

const known = 'event.accepted_at_ms, event.body is not null as has_body'

const liveOfEndpoint = `
  select ${liveColumns}, ${known} from (
    select * from kmsg.live
     where kind = 'single' and id > $1 and id < $2 and endpoint_key = $3 order by id limit $4
  ) as live ${liveJoins} order by live.id`

/** The newest round of each event. */
const doneOfEndpoint = `
  select ${doneColumns}, ${known} from (
    select * from kmsg.done
     where id > $1 and id < $2 and endpoint_key = $3 and retried_as is null
       and state = any($5::text[]) order by id limit $4
  ) as done ${doneJoins} order by done.id`

const failedOfEndpoint = `
  select ${doneColumns}, ${known} from (
    select * from kmsg.done
     where state in ('exhausted', 'rejected') and retried_as is null
       and id > $1 and id < $2 and endpoint_key = $3
       and state = any($5::text[]) order by id limit $4
  ) as done ${doneJoins} order by done.id`

/** One that is still to be fanned out to the endpoint counts as one it has. */
const eventsInOrder = `
  select event.key, event.id, event.type, event.tenant_id, event.accepted_at_ms,
         event.body is not null as has_body, case when $4 then event.body end as body,
         exists (select from kmsg.live where live.id >= 'dlv_' || event.key || '_' || $5
                                      and live.id < 'dlv_' || event.key || '_' || $5 || '\`')
           or exists (select from kmsg.done where done.id >= 'dlv_' || event.key || '_' || $5
                                           and done.id < 'dlv_' || event.key || '_' || $5 || '\`')
           or exists (select from kmsg.fan_out, json_array_elements(fan_out.targets) each
                       where fan_out.event_key = event.key and each.value ->> 1 = $5) as is_there,
         (select id from kmsg.done where done.id >= 'dlv_' || event.key || '_' || $5
                                and done.id < 'dlv_' || event.key || '_' || $5 || '\`'
             and retried_as is null and state = 'cancelled'
             and reason in ('${cutOff.join("', '")}')) as cut_off_id
    from (select * from kmsg.event where key > $1 and key < $2 order by key limit $3) as event
   order by event.key`

/** Of one moment: a delivery that ends between two statements would be there twice, or not at all. */
export async function findCandidates(
  { database }: Session,
  query: CandidateQuery,
): Promise<CandidatePage> {
  const end = eventKeyFloor(query.criteria.untilMs)
  return await database.snapshot((connection) =>
    query.kind === 'backfill'
      ? eventsAfter(connection, query, end)
      : deliveriesAfter(connection, query, end),
  )
}

async function eventsAfter(
  connection: Connection,
  { tenantId, endpointKey, after, withBodies, limit }: CandidateQuery,
  end: string,
): Promise<CandidatePage> {
  const rows = await connection.all<CandidateEventRow>(
    eventsInOrder,
    ...[after, end, limit, withBodies, endpointKey],
  )
  const next = rows.length === limit ? (rows.at(-1)?.key ?? null) : null
  const candidates = rows.filter((row) => row.tenant_id === toText(tenantId))
  return { candidates: candidates.map((row) => candidateOfEvent(row, fromText)), next }
}

async function deliveriesAfter(
  connection: Connection,
  query: CandidateQuery,
  end: string,
): Promise<CandidatePage> {
  const endMs = performance.now() + msPerPage
  const upTo = `dlv_${end}`
  const candidates: Candidate[] = []
  let after = query.after
  do {
    const from = idsAfter(after)
    const slot = await nextSlot(connection, query.endpointKey, from)
    if (slot === null || slot >= upTo) return { candidates, next: null }
    const slotIsOver = slotEnd(slot)
    const to = slotIsOver < upTo ? slotIsOver : upTo
    const page = await readRange(connection, query, from, to)
    candidates.push(...page.candidates)
    if (page.next === null && to === upTo) return { candidates, next: null }
    after = page.next ?? to.slice('dlv_'.length)
  } while (candidates.length < query.limit && performance.now() < endMs)
  return { candidates, next: after }
}

/** Ids of later events are above it. An event key has 24 characters; less is a moment. */
function idsAfter(eventKey: string): string {
  return eventKey.length === 24 ? deliveryIdRange(eventKey).to : `dlv_${eventKey}`
}

async function readRange(
  connection: Connection,
  { endpointKey, criteria, limit }: CandidateQuery,
  from: string,
  to: string,
): Promise<CandidatePage> {
  const ended = criteria.states.filter((state) => state !== 'waiting')
  const doneSql = ended.every(isFailure) ? failedOfEndpoint : doneOfEndpoint
  const states = textArray(ended)
  const lists = [
    criteria.states.includes('waiting')
      ? await connection.all<CandidateRow>(liveOfEndpoint, from, to, endpointKey, limit)
      : [],
    ended.length === 0
      ? []
      : await connection.all<CandidateRow>(doneSql, from, to, endpointKey, limit, states),
  ]
  return candidatePage(lists, limit, fromText)
}

function isFailure(state: string): boolean {
  return state === 'exhausted' || state === 'rejected'
}
