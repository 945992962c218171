/** Records as the engine makes them, for tests of single parts. */
import type { EndpointRecord } from '../../src/model/endpoint.ts'
import type { Claim } from '../../src/storage/claims.ts'
import type {
  AcceptRecord,
  AcceptResult,
  ReleaseRecord,
  SettlementRecord,
} from '../../src/storage/commit-records.ts'
import type { PendingAccept } from '../../src/storage/pending-group.ts'

export function acceptRecord(id: string, acceptedAtMs = 0): AcceptRecord {
  return {
    event: {
      key: `key_${id}`,
      tenantId: '',
      id,
      type: 'message.sent',
      acceptedAtMs,
      body: Buffer.from(`{"id":"${id}"}`),
      contentHash: Buffer.alloc(32),
      matched: 0,
    },
    deliveries: [],
    fanOutTo: null,
    endpointsVersion: null,
  }
}

/** An accept whose answers are kept, in the order they came. */
export function pendingAccept(
  id: string,
  acceptedAtMs = 0,
  weight = 1,
): PendingAccept & { readonly answers: string[] } {
  const answers: string[] = []
  const say = (error: Error) => `${(error as { code?: string }).code ?? error.message}`
  return {
    record: acceptRecord(id, acceptedAtMs),
    weight,
    answers,
    expired: false,
    committed: (result: AcceptResult) => answers.push(result.kind),
    failed: (error) => answers.push(`failed ${say(error)}`),
    expire: (error) => answers.push(`expired ${say(error)}`),
  }
}

export function settlementRecord(
  deliveryId: string,
  text: { error?: string | null; responseBody?: Uint8Array | null } = {},
): SettlementRecord {
  return {
    deliveryId,
    endpointKey: 'aaaaaaaa',
    tenantId: '',
    eventType: 'message.sent',
    token: 1,
    attempt: {
      number: 1,
      startedAtMs: 0,
      latencyMs: 1,
      outcome: 'accepted',
      httpStatus: 200,
      error: text.error ?? null,
      responseBody: text.responseBody ?? null,
      endpointVersion: 1,
    },
    settlement: { state: 'delivered', reason: 'accepted', effect: null },
    settledAtMs: 1,
  }
}

export function releaseRecord(deliveryId: string): ReleaseRecord {
  return { deliveryId, token: 1, dueAtMs: 0 }
}

export function claimOf(deliveryId: string, endpointKey: string, bytes = 10): Claim {
  return {
    deliveryId,
    endpointKey,
    tenantId: '',
    token: 1,
    attempts: 0,
    isFresh: true,
    takenAtMs: 0,
    eventId: deliveryId,
    eventType: 'message.sent',
    acceptedAtMs: 0,
    body: new Uint8Array(bytes),
    members: null,
  }
}

export function endpointRecord(key: string, fields: Partial<EndpointRecord> = {}): EndpointRecord {
  return {
    key,
    id: key,
    tenantId: '',
    url: 'https://example.com/',
    events: ['*'],
    name: key,
    description: '',
    status: 'active',
    statusReason: null,
    statusChangedAtMs: 0,
    secrets: [],
    signatureSchemes: null,
    filters: {},
    bodyFilter: null,
    retryConfig: {},
    headers: {},
    tls: null,
    timeoutMs: null,
    concurrency: null,
    batch: false,
    ordering: null,
    version: 1,
    warning: null,
    rateLimit: null,
    createdAtMs: 0,
    updatedAtMs: 0,
    ...fields,
  }
}

/** Lets every promise that can go on go on, without passing time. */
export async function settled(): Promise<void> {
  await new Promise<void>((resolve) => {
    setImmediate(resolve)
  })
}
