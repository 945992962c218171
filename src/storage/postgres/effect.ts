/** What outcomes do to their endpoints as a whole, in the transaction of their settlements. */
import type { SettlementRecord } from '../storage.ts'
import type { Connection } from './connection.ts'
import { appendChange, raiseVersion } from './endpoint.ts'
import { toText } from './text.ts'

/** Never shorter: two answers can ask for different times. */
const hold = `
  update kmsg.endpoint set held_until_ms = $1::bigint where key = $2 and held_until_ms < $1::bigint`

const warn = `
  update kmsg.endpoint set warning = $1, updated_at_ms = $2, version = version + 1
   where key = $3 and warning is distinct from $1 and removed_at_ms is null
  returning version`

const disable = `
  update kmsg.endpoint
     set status = 'disabled', status_reason = $1, status_changed_at_ms = $2, updated_at_ms = $2,
         version = version + 1
   where key = $3 and status <> 'disabled' and removed_at_ms is null
  returning version`

/**
 * In the order of endpoints: two processes then wait for each other in one direction only. Others read
 * the endpoints again when one was disabled or warned about; who asks for a pause asks each process by itself.
 *
 * @returns whether others should
 */
export async function writeEffects(
  connection: Connection,
  records: readonly SettlementRecord[],
): Promise<boolean> {
  const withEffect = records
    .filter(({ settlement }) => settlement.effect !== null)
    .sort((a, b) => (a.endpointKey < b.endpointKey ? -1 : 1))
  let changed = 0
  for (const record of withEffect) changed += await writeEffect(connection, record)
  if (changed > 0) await raiseVersion(connection)
  return changed > 0
}

/** @returns endpoints whose record is another now */
async function writeEffect(
  connection: Connection,
  { endpointKey, settlement: { effect }, settledAtMs }: SettlementRecord,
): Promise<number> {
  const atMs = Math.round(settledAtMs)
  switch (effect?.kind) {
    case 'hold':
      await connection.run(hold, Math.round(effect.untilMs), endpointKey)
      return 0
    case 'warn': {
      const { warning: reason } = effect
      const row = await connection.get<{ version: number }>(warn, toText(reason), atMs, endpointKey)
      if (row === undefined) return 0
      const { version } = row
      const change = { atMs, version, what: 'warned', reason, fields: ['warning'] }
      await appendChange(connection, endpointKey, change)
      return 1
    }
    case 'disable': {
      const { reason } = effect
      const row = await connection.get<{ version: number }>(disable, reason, atMs, endpointKey)
      if (row === undefined) return 0
      const { version } = row
      const change = { atMs, version, what: 'disabled', reason, fields: ['status'] }
      await appendChange(connection, endpointKey, change)
      return 1
    }
    default:
      return 0
  }
}
