/**
 * A sealed batch whose bytes hold an erased event is taken apart: its other members wait again on their
 * own and are sealed anew. They begin with no attempt, since those made were the batch's. Runs inside
 * the transaction of its caller.
 */
import { membersFromJson } from './batch.ts'
import type { Connection } from './connection.ts'
import type { Session } from './session.ts'

const findMembers = 'select members from batch where id = ?'
const joinNone = 'update live set batch_id = null where id = ?'
const deleteCarrier = 'delete from live where id = ?'
const closeBatch = 'update batch set settled_at_ms = ?, body = null where id = ?'
const eraseAnswers = `
  update attempt set error = null, response_body = null where delivery_id = ?`

/** @returns ids of the members */
export function dissolveBatch(
  { connection }: Pick<Session, 'connection'>,
  id: string,
  nowMs: number,
): string[] {
  const row = connection.get<{ members: string }>(findMembers, id)
  const members = membersFromJson(row?.members ?? '[]').map(({ deliveryId }) => deliveryId)
  for (const member of members) connection.run(joinNone, member)
  connection.run(deleteCarrier, id)
  connection.run(closeBatch, nowMs, id)
  eraseAnswersOfBatch(connection, id)
  return members
}

export function eraseAnswersOfBatch(connection: Connection, id: string): void {
  connection.run(eraseAnswers, id)
}
