/** What one outcome does to the endpoint as a whole, in the transaction of its settlement. */
import type { EndpointEffect } from '../../model/settlement.ts'
import { appendChange } from './endpoint.ts'
import { writeHold } from './flow.ts'
import type { Session } from './session.ts'

const warn = `
  update endpoint set warning = ?1, updated_at_ms = ?2, version = version + 1
   where key = ?3 and warning is not ?1 and removed_at_ms is null
  returning version`

const disable = `
  update endpoint
     set status = 'disabled', status_reason = ?1, status_changed_at_ms = ?2, updated_at_ms = ?2,
         version = version + 1
   where key = ?3 and status <> 'disabled' and removed_at_ms is null
  returning version`

export function applyEffect(
  session: Session,
  endpointKey: string,
  effect: EndpointEffect,
  atMs: number,
): void {
  if (effect.kind === 'hold') {
    writeHold(session, endpointKey, effect.untilMs)
    return
  }
  // The row moves within its page, and its secrets with it: no copy may stay behind.
  session.connection.erasing(() => writeEffect(session, endpointKey, effect, atMs))
}

function writeEffect(
  session: Session,
  endpointKey: string,
  effect: Exclude<EndpointEffect, { kind: 'hold' }>,
  atMs: number,
): void {
  const { connection, endpoints } = session
  switch (effect.kind) {
    case 'warn': {
      const { warning: reason } = effect
      const row = connection.get<{ version: number }>(warn, reason, atMs, endpointKey)
      if (row === undefined) return
      const { version } = row
      const fields = ['warning']
      appendChange(session, endpointKey, { atMs, version, what: 'warned', reason, fields })
      return
    }
    case 'disable': {
      const { reason } = effect
      const row = connection.get<{ version: number }>(disable, reason, atMs, endpointKey)
      if (row === undefined) return
      const { version } = row
      const fields = ['status']
      appendChange(session, endpointKey, { atMs, version, what: 'disabled', reason, fields })
      connection.afterCommit(() => {
        endpoints.set(endpointKey, { status: 'disabled', removed: false })
      })
      return
    }
    default:
      effect satisfies never
  }
}
