import { describe, expect, it } from 'vitest'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { AcceptRecord, AcceptResult, IntakeRecord } from '../storage/commit-records.ts'
import type { Store } from '../storage/storage.ts'
import { Backlog } from './backlog.ts'
import { Handover } from './handover.ts'
import { Intake } from './intake.ts'

const endpoint = { key: 'a', tenantId: '', ordering: null } as EndpointRecord
const clock = { nowMs: () => 0, setTimer: () => () => {} }
const brought = (key: string): IntakeRecord => ({
  ...{ key, tenantId: '', id: key, type: 'x', acceptedAtMs: 0 },
  ...{ body: Buffer.from('{}'), contentHash: Buffer.alloc(32) },
})

/** An intake whose store says of each turn what became of what it took; a turn may fail. */
function setUp(...turns: (Error | readonly [match: number, AcceptResult['kind']])[]) {
  const limits = { maxBacklog: 20, maxTenantBacklog: null }
  const backlog = Backlog.within(limits, clock, () => {})
  const lanes = { unreserve() {}, admit() {}, stored() {}, fanOut() {}, reserve: () => false }
  const takeIntake = async (match: (event: IntakeRecord) => AcceptRecord) => {
    const turn = turns.shift()
    if (turn === undefined) return []
    const times = turn instanceof Error ? 1 : turn[0]
    let record = match(brought('e1'))
    for (let i = 1; i < times; i += 1) record = match(brought('e1'))
    if (turn instanceof Error) throw turn
    return [{ record, result: { kind: turn[1] } as AcceptResult }]
  }
  const tools = {
    store: { takeIntake } as unknown as Store,
    ...{ clock, newKey: () => 'e1', backlog, lanes },
    ...{ match: () => [endpoint], endpointsVersion: () => 1, refresh: async () => {} },
    batchTimeoutMs: () => null,
    refused: () => {},
  }
  const intake = new Intake(
    tools,
    new Handover({ lanes, backlog, accepted: () => {}, cancelled: () => {} }),
  )
  /** How many more deliveries of the endpoint may wait: half of the limit is the most. */
  const room = () => {
    let count = 0
    while (backlog?.enter('', [endpoint]).size === 0) count += 1
    return count
  }
  return { intake, room, backlog }
}

describe('what a transaction brought counts once', () => {
  it('however often its transaction was tried', async () => {
    const { intake, room } = setUp([5, 'stored'])
    await intake.takeOver()
    expect(room()).toBe(9)
  })

  it('when the endpoints had changed meanwhile', async () => {
    const { intake, room } = setUp([1, 'stale'], [1, 'stale'], [1, 'stored'])
    await intake.takeOver()
    expect(room()).toBe(9)
  })

  it('not at all when it was not stored', async () => {
    const { intake, room } = setUp(new Error('lost'))
    await expect(intake.takeOver()).rejects.toThrow('lost')
    expect(room()).toBe(10)
  })

  it('and the store has the last word, once it is stored', async () => {
    const { intake, room, backlog } = setUp([1, 'stored'])
    await intake.takeOver()
    backlog?.correct([{ endpointKey: 'a', tenantId: '', deliveries: 1 }])
    expect(room()).toBe(9)
  })
})
