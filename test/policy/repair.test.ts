import { describe, expect, it } from 'vitest'
import { behindMs } from '../../src/model/delivery.ts'
import type { Candidate, RepairCriteria } from '../../src/model/repair.ts'
import { chooseForRepair, needsBody } from '../../src/policy/repair.ts'

const nowMs = 1_000
const everything = { status: 'active', events: ['*'], filters: {} } as const

function criteria(fields: Partial<RepairCriteria> = {}): RepairCriteria {
  const states = ['waiting', 'delivered', 'exhausted', 'rejected'] as const
  return { sinceMs: 0, untilMs: nowMs, types: null, states, metadata: null, ...fields }
}

function candidate(fields: Partial<Candidate> = {}): Candidate {
  return {
    eventKey: 'k',
    eventId: 'evt',
    eventType: 'message.sent',
    acceptedAtMs: 0,
    isThere: true,
    delivery: { id: 'dlv', state: 'delivered', attempts: 1, dueAtMs: null },
    hasBody: true,
    body: null,
    ...fields,
  }
}

type State = NonNullable<Candidate['delivery']>['state']
const of = (state: State, attempts = 1, dueAtMs: number | null = null) =>
  candidate({ delivery: { id: 'dlv', state, attempts, dueAtMs } })

describe('what a retry or a replay takes', () => {
  it.each([
    ['replay', of('delivered'), 'take'],
    ['replay', of('exhausted'), 'take'],
    ['replay', of('cancelled'), 'unwanted'],
    ['replay', of('waiting', 0, nowMs + 1), 'not_yet_tried'],
    ['replay', of('waiting', 1, nowMs + 1), 'take'],
    ['replay', of('waiting', 1, nowMs), 'already_due'],
    ['replay', of('waiting', 0, behindMs), 'behind_another'],
    ['replay', of('delivering', 0), 'in_flight'],
    ['replay', { ...of('delivered'), hasBody: false }, 'body_gone'],
    ['replay', { ...of('delivered'), eventType: 'x' }, 'take'],
    ['retry', of('waiting', 1, nowMs + 1), 'take'],
    // What was never tried has not failed.
    ['retry', of('waiting', 0, nowMs + 1), 'unwanted'],
    ['retry', of('delivering', 0), 'unwanted'],
    ['retry', of('delivering', 1), 'in_flight'],
  ] as const)('%s: %j is %s', (kind, one, choice) => {
    expect(chooseForRepair(kind, criteria(), everything, one, nowMs)).toBe(choice)
  })

  it('looks at types and states', () => {
    const choose = (fields: Partial<RepairCriteria>, state: State = 'delivered') =>
      chooseForRepair('replay', criteria(fields), everything, of(state, 1, nowMs + 1), nowMs)
    expect(choose({ types: ['message.*'] })).toBe('take')
    expect(choose({ types: ['template.*', 'message.read'] })).toBe('unwanted')
    expect(choose({ states: ['rejected'] })).toBe('unwanted')
    expect(choose({ states: ['rejected'] }, 'waiting')).toBe('unwanted')
    expect(choose({ states: ['cancelled'] }, 'cancelled')).toBe('take')
  })
})

describe('what a backfill takes', () => {
  const body = (metadata?: object) => new TextEncoder().encode(JSON.stringify({ metadata }))
  const missing = (fields: Partial<Candidate> = {}) =>
    candidate({ isThere: false, delivery: null, ...fields })
  const choose = (one: Candidate, endpoint: object = {}, fields: Partial<RepairCriteria> = {}) =>
    chooseForRepair('backfill', criteria(fields), { ...everything, ...endpoint }, one, nowMs)

  it('is what the endpoint never got and matches now', () => {
    expect(choose(missing())).toBe('take')
    expect(choose(candidate({ delivery: null }))).toBe('already_there')
    // Cut off, as by a full backlog: it has a delivery, and never got the event.
    expect(choose(of('cancelled', 0))).toBe('take')
    expect(choose(of('cancelled', 0), { events: ['template.*'] })).toBe('unwanted')
    expect(choose({ ...of('cancelled', 0), hasBody: false })).toBe('body_gone')
    expect(choose(missing({ hasBody: false }))).toBe('body_gone')
    expect(choose(missing(), { events: ['template.*'] })).toBe('unwanted')
    expect(choose(missing({ hasBody: false }), { events: ['template.*'] })).toBe('unwanted')
    expect(choose(missing(), {}, { types: ['message.read'] })).toBe('unwanted')
  })

  it('looks at metadata, and fails closed', () => {
    const filters = { providerId: ['kakao'] }
    const kakao = missing({ body: body({ providerId: 'kakao' }) })
    expect(choose(kakao, { filters })).toBe('take')
    expect(choose(missing({ body: body({ providerId: 'x' }) }), { filters })).toBe('unwanted')
    expect(choose(missing({ body: body() }), { filters })).toBe('unwanted')
    expect(choose(kakao, {}, { metadata: filters })).toBe('take')
    expect(choose(kakao, {}, { metadata: { channelId: ['a'] } })).toBe('unwanted')
    expect(needsBody(criteria(), everything)).toBe(false)
    expect(needsBody(criteria(), { ...everything, filters })).toBe(true)
    expect(needsBody(criteria({ metadata: filters }), everything)).toBe(true)
  })

  it('looks at the body filter, and never takes events of our own', () => {
    const bodyFilter = { path: ['to'], eq: 'kim' }
    const to = (name: string) =>
      missing({ body: new TextEncoder().encode(JSON.stringify({ data: { to: name } })) })
    expect(choose(to('kim'), { bodyFilter })).toBe('take')
    expect(choose(to('lee'), { bodyFilter })).toBe('unwanted')
    expect(needsBody(criteria(), { ...everything, bodyFilter })).toBe(true)
    expect(choose(missing({ eventType: 'system.endpoint.failing' }))).toBe('unwanted')
  })
})
