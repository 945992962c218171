/**
 * What moves from one kind of store to another: every table by its columns, and a checksum that both
 * stores can give of it. The list is the only place that knows; a test compares it with the schemas.
 */
import { createHash } from 'node:crypto'

/**
 * `text` is any text, also one with NUL; `json` is a JSON text, kept character by character;
 * `integer` is at most 53 bits.
 */
export type ColumnKind = 'text' | 'json' | 'integer' | 'real' | 'boolean' | 'bytes'

export type MovingValue = string | number | boolean | null | Uint8Array

/** Values in the order of the table's columns. */
export type MovingRow = readonly MovingValue[]

export interface MovingTable {
  readonly name: string
  readonly columns: Readonly<Record<string, ColumnKind>>
}

export const movingTables: readonly MovingTable[] = [
  {
    name: 'endpoint',
    columns: {
      key: 'text',
      id: 'text',
      tenant_id: 'text',
      url: 'text',
      events: 'json',
      name: 'text',
      description: 'text',
      status: 'text',
      status_reason: 'text',
      status_changed_at_ms: 'integer',
      secrets: 'json',
      signature_schemes: 'json',
      filters: 'json',
      retry_config: 'json',
      headers: 'json',
      tls: 'json',
      timeout_ms: 'integer',
      concurrency: 'integer',
      batch: 'json',
      version: 'integer',
      warning: 'text',
      created_at_ms: 'integer',
      updated_at_ms: 'integer',
      removed_at_ms: 'integer',
      rate_limit: 'json',
      body_filter: 'json',
      ordering: 'json',
    },
  },
  {
    name: 'endpoint_flow',
    columns: {
      endpoint_key: 'text',
      held_until_ms: 'integer',
      breaker: 'text',
      breaker_epoch: 'integer',
      breaker_until_ms: 'integer',
      openings: 'integer',
      next_send_at_ms: 'real',
    },
  },
  {
    name: 'endpoint_change',
    columns: {
      endpoint_key: 'text',
      version: 'integer',
      what: 'text',
      at_ms: 'integer',
      reason: 'text',
      fields: 'json',
    },
  },
  {
    name: 'endpoint_health',
    columns: {
      endpoint_key: 'text',
      revision: 'integer',
      failing_since_ms: 'integer',
      last_failed_at_ms: 'integer',
      failed_hours: 'integer',
      failed_deliveries: 'integer',
      warned: 'text',
      warned_at_ms: 'integer',
      cleared_at_ms: 'integer',
    },
  },
  {
    name: 'event',
    columns: {
      key: 'text',
      tenant_id: 'text',
      id: 'text',
      type: 'text',
      accepted_at_ms: 'integer',
      matched: 'integer',
      pruned: 'integer',
      erased_at_ms: 'integer',
      body: 'bytes',
    },
  },
  {
    name: 'event_key',
    columns: {
      tenant_id: 'text',
      id: 'text',
      key: 'text',
      content_hash: 'bytes',
      accepted_at_ms: 'integer',
    },
  },
  {
    name: 'live',
    columns: {
      id: 'text',
      kind: 'text',
      alone: 'integer',
      event_key: 'text',
      endpoint_key: 'text',
      state: 'text',
      token: 'integer',
      attempts: 'integer',
      due_at_ms: 'integer',
      reason: 'text',
      round: 'integer',
      batch_id: 'text',
      created_at_ms: 'integer',
      repair_id: 'text',
      cancel_reason: 'text',
      expires_at_ms: 'integer',
      order_key: 'text',
      order_no: 'integer',
      order_blocks: 'boolean',
    },
  },
  {
    name: 'order_block',
    columns: {
      endpoint_key: 'text',
      order_key: 'text',
      delivery_id: 'text',
      at_ms: 'integer',
    },
  },
  {
    name: 'done',
    columns: {
      id: 'text',
      event_key: 'text',
      endpoint_key: 'text',
      state: 'text',
      reason: 'text',
      round: 'integer',
      attempts: 'integer',
      token: 'integer',
      batch_id: 'text',
      created_at_ms: 'integer',
      settled_at_ms: 'integer',
      retried_as: 'text',
      last_started_at_ms: 'integer',
      last_latency_ms: 'real',
      last_outcome: 'text',
      last_http_status: 'integer',
      last_error: 'text',
      last_response_body: 'bytes',
      last_endpoint_version: 'integer',
    },
  },
  { name: 'delivery_slot', columns: { endpoint_key: 'text', slot: 'text' } },
  {
    name: 'attempt',
    columns: {
      delivery_id: 'text',
      token: 'integer',
      number: 'integer',
      started_at_ms: 'integer',
      latency_ms: 'real',
      outcome: 'text',
      http_status: 'integer',
      error: 'text',
      response_body: 'bytes',
      endpoint_version: 'integer',
      late: 'boolean',
    },
  },
  {
    name: 'batch',
    columns: {
      id: 'text',
      endpoint_key: 'text',
      tenant_id: 'text',
      sealed_at_ms: 'integer',
      settled_at_ms: 'integer',
      member_count: 'integer',
      members: 'json',
      body: 'bytes',
    },
  },
  {
    name: 'fan_out',
    columns: { event_key: 'text', targets: 'json', total: 'integer', position: 'integer' },
  },
  {
    name: 'repair',
    columns: {
      id: 'text',
      kind: 'text',
      tenant_id: 'text',
      endpoint_key: 'text',
      criteria: 'text',
      max_per_second: 'integer',
      state: 'text',
      reason: 'text',
      cursor: 'text',
      next_step_at_ms: 'integer',
      matched: 'integer',
      queued: 'integer',
      skipped: 'text',
      created_at_ms: 'integer',
      ended_at_ms: 'integer',
    },
  },
  {
    name: 'rollup',
    columns: {
      endpoint_key: 'text',
      hour_ms: 'integer',
      tenant_id: 'text',
      event_type: 'text',
      outcome: 'text',
      state: 'text',
      latency_class: 'integer',
      attempts: 'integer',
      deliveries: 'integer',
      latency_sum_ms: 'real',
    },
  },
  {
    name: 'pruned',
    columns: { endpoint_key: 'text', state: 'text', deliveries: 'integer', attempts: 'integer' },
  },
]

/**
 * What stays behind, and why it may: tables, and columns as `table.column`. Processes of the old
 * place own nothing in the new one; sums get the new place's writer.
 */
export const staying: readonly string[] = [
  ...['worker', 'live.owner', 'live.claim_no', 'repair.worker', 'rollup.writer'],
  // Its sums are read with those of `rollup`.
  'rollup_pending',
  // Only where several processes share a database.
  ...['migration', 'endpoints_version', 'intake', 'pruned_day'],
  ...['endpoint.changed', 'endpoint_flow.changed', 'live.cancel_heard'],
]

/** Where rows come from. Reading changes nothing; each call begins anew. */
export interface MovingSource {
  readonly location: string
  count(table: MovingTable): number
  /** Rows as they have to arrive, in slices that fit into memory. */
  slices(table: MovingTable): Iterable<readonly MovingRow[]>
  close(): void
}

/** One table on both sides, each as that side reads it back. */
export interface MovedTable {
  readonly name: string
  readonly read: Checked
  readonly written: Checked
  readonly same: boolean
}

export interface Checked {
  readonly rows: number
  readonly checksum: string
}

/** What stands for a long value in the checksum, so that a database can give it without sending it. */
export function fingerprint(value: string | Uint8Array): string {
  return createHash('sha256').update(value).digest('hex')
}

const sumBits = 128

/** Of rows in any order: the sum of their hashes. Two databases need not sort alike. */
export class Checksum {
  #rows = 0
  #sum = 0n

  /** @param row bytes and JSON as their fingerprints */
  add(row: MovingRow): void {
    const hash = createHash('sha256').update(JSON.stringify(row)).digest('hex')
    this.#sum = BigInt.asUintN(sumBits, this.#sum + BigInt(`0x${hash.slice(0, sumBits / 4)}`))
    this.#rows += 1
  }

  result(): Checked {
    const checksum = this.#sum.toString(16).padStart(sumBits / 4, '0')
    return { rows: this.#rows, checksum }
  }
}

/** A row as the checksum takes it. */
export function fingerprinted({ columns }: MovingTable, row: MovingRow): MovingRow {
  return Object.values(columns).map((kind, i) => {
    const value = row[i] ?? null
    if (value === null || (kind !== 'bytes' && kind !== 'json')) return value
    return fingerprint(value as string | Uint8Array)
  })
}
