import { describe, expect, it } from 'vitest'
import { behindMs } from '../../src/model/delivery.ts'
import type { EndpointStatus } from '../../src/model/endpoint.ts'
import { type EndpointFlow, freeFlow } from '../../src/model/flow.ts'
import { type WaitingFor, waitingReason } from '../../src/policy/waiting-reason.ts'

const nowMs = 1_000_000
const breaker = (state: 'open' | 'half-open' | 'closed', untilMs: number) => ({
  breaker: { state, epoch: 3, untilMs, openings: 1 },
})

describe('why a delivery waits', () => {
  const rows: [EndpointStatus, Partial<EndpointFlow> | null, number, WaitingFor, number | null][] =
    [
      ['active', null, 500, 'schedule', nowMs + 500],
      ['active', null, 0, 'concurrency', null],
      ['active', {}, -10, 'concurrency', null],
      ['paused', { heldUntilMs: nowMs + 9 }, 500, 'paused', null],
      ['active', { heldUntilMs: nowMs + 9 }, behindMs, 'ordering', null],
      ['active', { heldUntilMs: nowMs + 600 }, 500, 'retry-after', nowMs + 600],
      ['active', { heldUntilMs: nowMs + 500 }, 500, 'retry-after', nowMs + 500],
      ['active', { heldUntilMs: nowMs + 400 }, 500, 'schedule', nowMs + 500],
      ['active', { heldUntilMs: nowMs - 1 }, 0, 'concurrency', null],
      ['active', breaker('open', nowMs + 30_000), 0, 'breaker', nowMs + 30_000],
      ['active', breaker('open', nowMs + 400), 500, 'schedule', nowMs + 500],
      ['active', breaker('open', nowMs - 400), -500, 'breaker', null],
      ['active', breaker('half-open', nowMs + 7), -500, 'breaker', nowMs + 7],
      ['active', breaker('closed', 0), -500, 'concurrency', null],
      ['active', { nextSendAtMs: nowMs + 90 }, -500, 'rate', nowMs + 90],
      [
        'active',
        { nextSendAtMs: nowMs + 90, heldUntilMs: nowMs + 91 },
        0,
        'retry-after',
        nowMs + 91,
      ],
    ]
  it.each(rows)(
    '%s %j, due in %i ms: %s until %s',
    (status, flow, dueInMs, waitingFor, untilMs) => {
      const stored = flow && { ...freeFlow('key'), ...flow }
      const delivery = { state: 'waiting', dueAtMs: nowMs + dueInMs } as const
      expect(waitingReason({ status }, stored, delivery, nowMs)).toEqual({ waitingFor, untilMs })
    },
  )

  it('is null for one that does not wait', () => {
    for (const state of ['delivering', 'delivered', 'cancelled'] as const) {
      expect(waitingReason({ status: 'paused' }, null, { state, dueAtMs: null }, nowMs)).toBeNull()
    }
  })
})
