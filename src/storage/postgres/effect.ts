/** What outcomes do to their endpoints as a whole, in the transaction of their settlements. */
import type { SettlementRecord } from '../commit-records.ts'
import type { Connection } from './connection.ts'
import { appendChange, raiseVersion } from './endpoint.ts'
import { writeHolds } from './flow.ts'
import { toText } from './text.ts'

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

export interface EffectsWritten {
  /** Others should read the endpoints again. */
  readonly endpoints: boolean
  /** Others should read the flows again. */
  readonly flows: boolean
}

/** In the order of endpoints: two processes then wait for each other in one direction only. */
export async function writeEffects(
  connection: Connection,
  records: readonly SettlementRecord[],
): Promise<EffectsWritten> {
  const withEffect = records
    .filter(({ settlement }) => settlement.effect !== null)
    .sort((a, b) => (a.endpointKey < b.endpointKey ? -1 : 1))
  const holds = withEffect.flatMap(({ endpointKey, settlement: { effect } }) =>
    effect?.kind === 'hold' ? [{ endpointKey, untilMs: effect.untilMs }] : [],
  )
  if (holds.length > 0) await writeHolds(connection, holds)
  const changed = new Set<string>()
  for (const record of withEffect) {
    if (await writeEffect(connection, record)) changed.add(record.endpointKey)
  }
  if (changed.size > 0) await raiseVersion(connection, [...changed])
  return { endpoints: changed.size > 0, flows: holds.length > 0 }
}

/** @returns whether its record is another now */
async function writeEffect(
  connection: Connection,
  { endpointKey, settlement: { effect }, settledAtMs }: SettlementRecord,
): Promise<boolean> {
  const atMs = Math.round(settledAtMs)
  switch (effect?.kind) {
    case 'warn': {
      const { warning: reason } = effect
      const row = await connection.get<{ version: number }>(warn, toText(reason), atMs, endpointKey)
      if (row === undefined) return false
      const { version } = row
      const change = { atMs, version, what: 'warned', reason, fields: ['warning'] }
      await appendChange(connection, endpointKey, change)
      return true
    }
    case 'disable': {
      const { reason } = effect
      const row = await connection.get<{ version: number }>(disable, reason, atMs, endpointKey)
      if (row === undefined) return false
      const { version } = row
      const change = { atMs, version, what: 'disabled', reason, fields: ['status'] }
      await appendChange(connection, endpointKey, change)
      return true
    }
    default:
      return false
  }
}
