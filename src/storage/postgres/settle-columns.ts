/** What settlements are in a statement: columns of arrays, and how one is named. */
import type { SettlementRecord } from '../commit-records.ts'
import { latencyClass } from '../latency-class.ts'
import { float8Array, int4Array, int8Array } from './binary-array.ts'
import type { SqlValue } from './connection.ts'
import { ByteColumn, rowsOf, textArray } from './text.ts'

export const given = `${rowsOf({
  id: '$1::text[]',
  token: '$2::int[]',
  settled_for: '$3::text[]',
  tenant_id: '$4::text[]',
  event_type: '$5::text[]',
  settled_at_ms: '$6::bigint[]',
  number: '$7::int[]',
  started_at_ms: '$8::bigint[]',
  latency_ms: '$9::float8[]',
  outcome: '$10::text[]',
  http_status: '$11::int[]',
  error: '$12::text[]',
  body_at: '$13::int[]',
  body_length: '$14::int[]',
  endpoint_version: '$15::bigint[]',
  state: '$16::text[]',
  reason: '$17::text[]',
  due_at_ms: '$18::bigint[]',
  latency_class: '$19::int[]',
})} as given`

export function toColumns(records: readonly SettlementRecord[]): SqlValue[] {
  const bytes = new ByteColumn()
  const bodyAt = records.map(({ attempt }) =>
    attempt.responseBody === null ? null : bytes.add(attempt.responseBody),
  )
  const attempts = records.map(({ attempt }) => attempt)
  const settlements = records.map(({ settlement }) => settlement)
  return [
    textArray(records.map((one) => one.deliveryId)),
    int4Array(records.map((one) => one.token)),
    textArray(records.map((one) => one.endpointKey)),
    textArray(records.map((one) => one.tenantId)),
    textArray(records.map((one) => one.eventType)),
    int8Array(records.map((one) => Math.round(one.settledAtMs))),
    int4Array(attempts.map((one) => one.number)),
    int8Array(attempts.map((one) => Math.round(one.startedAtMs))),
    float8Array(attempts.map((one) => one.latencyMs)),
    textArray(attempts.map((one) => one.outcome)),
    int4Array(attempts.map((one) => one.httpStatus)),
    textArray(attempts.map((one) => one.error)),
    int4Array(bodyAt),
    int4Array(attempts.map((one) => one.responseBody?.length ?? null)),
    int8Array(attempts.map((one) => one.endpointVersion)),
    textArray(settlements.map((one) => one.state)),
    textArray(settlements.map((one) => one.reason)),
    int8Array(settlements.map((one) => (one.state === 'waiting' ? Math.round(one.dueAtMs) : null))),
    int4Array(attempts.map((one) => latencyClass(one.latencyMs))),
    bytes.joined(),
  ]
}

export function nameOf(deliveryId: string, token: number): string {
  return `${deliveryId} ${token}`
}

export function keyOf({ deliveryId, token }: SettlementRecord): string {
  return nameOf(deliveryId, token)
}
