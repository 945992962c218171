import { describe, expect, it } from 'vitest'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { WebhookError } from '../model/errors.ts'
import { Backlog, type BacklogFull } from './backlog.ts'

const endpoint = (key: string, tenantId = '') => ({ key, tenantId }) as EndpointRecord

function backlogOf(limits: { maxBacklog?: number; maxTenantBacklog?: number }) {
  const clock = { ms: 0, nowMs: () => clock.ms, setTimer: () => () => {} }
  const told: BacklogFull[] = []
  const { maxBacklog = null, maxTenantBacklog = null } = limits
  const backlog = Backlog.within({ maxBacklog, maxTenantBacklog }, clock, (full) => told.push(full))
  if (backlog === null) throw new Error('nothing is limited')
  return { backlog, clock, told }
}

function hintOf(refused: () => void): number | undefined {
  try {
    refused()
  } catch (error) {
    return (error as WebhookError).retryAfterMs
  }
  throw new Error('expected BACKLOG_FULL')
}

describe('Backlog', () => {
  it('is null without a limit', () => {
    const clock = { nowMs: () => 0, setTimer: () => () => {} }
    const limits = { maxBacklog: null, maxTenantBacklog: null }
    expect(Backlog.within(limits, clock, () => {})).toBeNull()
  })

  it('hints at the time that the ends of the last moments need', () => {
    const { backlog, clock } = backlogOf({ maxBacklog: 1_000 })
    for (let i = 0; i < 500; i += 1) backlog.enter('', [endpoint('a'), endpoint('b')])
    expect(hintOf(() => backlog.enter('', [endpoint('c')]))).toBe(60_000)
    clock.ms = 10_000
    // 100 in 10 s.
    backlog.ended('', 'a', 100)
    for (let i = 0; i < 50; i += 1) backlog.enter('', [endpoint('c'), endpoint('d')])
    const many = Array.from({ length: 30 }, (_, i) => endpoint(`x${i}`))
    expect(hintOf(() => backlog.enter('', many))).toBe(3_000)
  })

  it('gives back what was not kept', () => {
    const { backlog } = backlogOf({ maxBacklog: 2 })
    backlog.enter('', [endpoint('a'), endpoint('b')])
    expect(() => backlog.enter('', [endpoint('c')])).toThrow(/maxBacklog/)
    backlog.committed('', ['a', 'b'], false)
    backlog.enter('', [endpoint('c')])
  })

  it('keeps what is under way when the store has counted', () => {
    const { backlog } = backlogOf({ maxBacklog: 10 })
    backlog.enter('', [endpoint('a'), endpoint('b')])
    backlog.correct([{ endpointKey: 'z', tenantId: '', deliveries: 8 }])
    expect(() => backlog.enter('', [endpoint('c')])).toThrow(/maxBacklog/)
    backlog.committed('', ['a', 'b'], true)
    backlog.correct([{ endpointKey: 'z', tenantId: '', deliveries: 9 }])
    backlog.enter('', [endpoint('c')])
  })

  it('tells of a full endpoint once, and again after it was emptier', () => {
    const { backlog, told } = backlogOf({ maxBacklog: 20 })
    for (let i = 0; i < 10; i += 1) expect(backlog.enter('', [endpoint('a')]).size).toBe(0)
    const a = endpoint('a')
    for (let i = 0; i < 5; i += 1) expect(backlog.enter('', [a])).toEqual(new Set([a]))
    expect(told).toHaveLength(1)
    expect(told[0]).toMatchObject({ scope: 'endpoint', limit: 10 })
    backlog.ended('', 'a', 5)
    for (let i = 0; i < 6; i += 1) backlog.enter('', [a])
    expect(told).toHaveLength(2)
  })

  it('takes what is committed already, but not more of an endpoint than it may hold', () => {
    const { backlog } = backlogOf({ maxBacklog: 4 })
    const a = endpoint('a')
    const b = endpoint('b')
    for (let i = 0; i < 2; i += 1) backlog.take('', [a, b])
    expect(backlog.take('', [a, b, endpoint('c')])).toEqual(new Set([a, b]))
    expect(() => backlog.requireRoom('')).toThrow(/maxBacklog/)
  })
})
